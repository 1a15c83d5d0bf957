"""What a step holds at a time, in bytes by part.

all the time   weights and moments, a shard of them where several processes train; models that stay; engines that never sleep
loading        adapters, several processes: each has the whole model before it is cut
sampling       the weights whole, or in the dtype that they are computed with; keys and values; logits
learning       at the end of the forward pass, at the head, in the backward pass: gradients, what is kept, the head's chunks;
               several processes: the blocks and the head that are gathered from all
reading        the same without gradient
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import ceil

from opd_steps.graph.cost.kept import kept
from opd_steps.graph.cost.rows import Length
from opd_steps.graph.cost.shape import BYTES, Shape
from opd_steps.graph.cost.work import Served, Work, adapts
from opd_steps.process import devices
from opd_steps.process.chunks import decisions

Parts = Counter  # part -> bytes
TILED = 5  # tensors [decisions, vocabulary] at most on a CPU, where divergences go tile by tile
LIBRARIES = 0.42e9  # of a process that has imported what a step imports
ADAPTER, MOMENTS, MEAN = 4, 2, 8  # bytes of an adapter's weight; moments of each weight; bytes of a gradient's mean
EIGHT_BIT = 1 + 4 / 256  # bytes of a moment in eight bits, with its share of a block's scale
SCALE, WHOLE = 4, 12  # in four bits: bytes of a block's scale; those of each weight of a layer while it is made whole
FEW = 16  # of rollout.products: with fewer new tokens no weight is laid out
LOGITS, NUCLEUS = 3, 8  # tensors [rows, vocabulary] of a decoding step, and more where top_p or top_k cuts
VARIANCE = 5  # tensors of the largest weight's size while the gradient's variance is read from the moments
HOST_CACHE = 256 << 20  # of vLLM on a CPU


@dataclass(frozen=True)
class Needs:
    """options of a node, its work, shapes by role, how long rows are, how many processes share the weights."""

    options: dict
    work: Work
    shapes: dict[str, Shape]
    length: Length
    ranks: int = 1

    # ---- what is asked

    @property
    def cuda(self) -> bool:
        return self.options["resources"]["gpu"] > 0

    @property
    def compute(self) -> str:
        return self.options["dtype"]

    @property
    def weights(self) -> str:
        return self.options.get("weights", self.compute)

    @property
    def mode(self) -> str:
        """As Style.kept has it: processes gather weights in the dtype that they compute in, and blocks cast what goes into them."""
        return self.compute if self.ranks > 1 or self.weights == self.compute else "mixed"

    @property
    def adapts(self) -> bool:
        return bool(self.work.trains) and adapts(self.options)

    @property
    def rank(self) -> int:
        """Of adapters; 0: none."""
        return self.options["tune"].get("r", 0) if self.adapts else 0

    def trained(self, shape: Shape) -> tuple[int, int]:
        """(how many weights of a learner are trained, bytes of each)."""
        if not self.adapts:
            return shape.parameters, BYTES[self.weights]
        targets = self.options["tune"].get("targets")
        own = self.rank * sum(a + b for a, b in shape.adapted(targets))
        sees = shape.tower and not targets
        return own + (shape.tower.adapters(self.rank) if sees else 0), ADAPTER

    def frozen(self, shape: Shape) -> tuple[float, float]:
        """Bytes of a learner's own weights beside its adapter, and of the largest that is made whole for a product."""
        whole = shape.parameters * BYTES[self.weights]
        if not (block := self.options["tune"].get("block")):
            return whole, 0
        each = [a * b for a, b in shape.adapted(self.options["tune"].get("targets"))]
        short = 0.5 + SCALE / block
        return whole - sum(each) * (BYTES[self.weights] - short), max(each) * WHOLE

    @property
    def at_once(self) -> int:
        """Rows that a process reads in one pass."""
        rows = self.work.read.rows
        if tokens := self.options.get("micro_tokens"):
            rows = max(1, tokens // self.length.total)
        return min(rows, ceil(self.work.read.total / self.ranks) or rows)

    @property
    def passes(self) -> int:
        """Of a process in a step."""
        return max(1, ceil(self.work.read.total / self.ranks / max(1, self.at_once)))

    @property
    def learned(self) -> float:
        """Rows that a process reads in a step."""
        return self.options.get("minibatches", 1) * self.work.read.total / self.ranks

    @property
    def forwards(self) -> int:
        """What a learner's pass costs, in forward passes: the backward one, blocks that run again, a first look at the batch."""
        return (2 if self.adapts else 3) + self.options.get("recompute", False) + (self.work.read.survey and self.passes > 1)

    # ---- what is held

    def held(self) -> Parts:
        found = Parts({} if self.cuda else {"libraries": LIBRARIES})
        for shape in (self.shapes[role] for role in self.work.trains):
            many, size = self.trained(shape)
            own, product = self.frozen(shape) if self.adapts else (shape.parameters * BYTES[self.weights], 0)
            own += many * size if self.adapts else 0
            moment = EIGHT_BIT if self.options["optim"]["eight_bit"] else size
            found += Parts(weights=own / self.ranks, moments=MOMENTS * many * moment / self.ranks, product=product)
        for model in self.work.still:
            name = "teachers" if self.work.trains else "weights"
            found[name] += self.shapes[model.role].parameters * BYTES[model.dtype] / self.ranks
        for served in self.work.served:
            if not devices.wanted(served.options) and not served.options["sleep"]:  # else it has cards of its own
                found[f"engine {served.key}"] += self.engine(served)
        if self.work.means:
            found["means"] += self.shapes[self.work.still[0].role].parameters * MEAN * self.work.means
        return found

    def engine(self, served: Served) -> float:
        """vLLM's share of the card, or its weights and a cache of a size that is named."""
        if self.cuda and not served.options["kv_cache_mb"]:
            return served.options["memory"] * self.options["resources"]["gpu_mem_gb"] * 1e9
        return self.own(served) + (served.options["kv_cache_mb"] << 20 or HOST_CACHE)

    def own(self, served: Served) -> float:
        """The weights of a model behind vLLM, on each of its cards."""
        return self.shapes[served.role].parameters * BYTES[served.dtype] / served.options["tensor_parallel"]

    def loading(self) -> dict[str, Parts]:
        """A whole model: of several processes before it is cut; before it is rounded, when no teacher is there yet."""
        short = self.adapts and self.options["tune"].get("block")
        if not short and not (self.adapts and self.ranks > 1):
            return {}
        most = max(self.shapes[role].parameters for role in self.work.trains) * BYTES[self.weights]
        later = sum(self.shapes[model.role].parameters * BYTES[model.dtype] for model in self.work.still) if short else 0
        return {"loading": Parts({"a whole model": most, "teachers": -later})}

    # ---- sampling

    def sampling(self) -> dict[str, Parts]:
        found = Parts()
        who = self.work.samples or next((s.role for s in self.work.served if s.role in self.work.trains), "")
        if not who:
            return {}
        shape, learns = self.shapes[who], who in self.work.trains
        if learns and self.ranks > 1:  # a server gets the weights one by one
            found["copy to sample from"] += shape.parameters * BYTES[self.compute] if self.work.samples else 0
        elif learns:
            merged = self.adapts and (self.weights == "float32" or not self.work.samples)
            found["copy to sample from"] += shape.linear * BYTES[self.weights] if merged else 0
            found["copy to sample from"] += shape.parameters * BYTES[self.compute] if self.weights != self.compute else 0
        if self.work.samples:
            found += self._decoding(shape)
        for served in self.work.served:
            if served.role == who and served.options["sleep"]:
                found[f"engine {served.key}"] += self.engine(served)
        return {"sampling": found}

    def asking(self) -> dict[str, Parts]:
        """Engines that sleep while nobody asks them, and are no learner's."""
        asked = [s for s in self.work.served if s.options["sleep"] and s.role not in self.work.trains]
        return {"asking an engine": Parts({f"engine {s.key}": self.engine(s) for s in asked})} if asked else {}

    def _decoding(self, shape: Shape) -> Parts:
        each = ceil(self.work.drawn / self.ranks)
        rows = min(self.work.at_once, each or self.work.at_once)
        tokens, size = self.length.total, BYTES[self.compute]
        found = Parts(cache=rows * tokens * (1 + 1 / shape.layers) * shape.cached * size)  # it grows layer by layer
        if self.cuda and shape.heads != shape.kv:  # one layer's, in as many heads as there are queries
            found["cache"] += rows * tokens * 2 * shape.heads * shape.head * size
        if not self.cuda and self.length.answer >= FEW:  # the head in fp32
            found["weights laid out"] += shape.linear * size + shape.vocab * shape.width * BYTES["float32"]
        sampling = self.options.get("sampling", {})
        cut = sampling.get("top_p", 1.0) < 1 or sampling.get("top_k", 0) > 0
        found["logits"] += rows * shape.vocab * 4 * (LOGITS + NUCLEUS * cut)
        return found

    def looking(self) -> dict[str, Parts]:
        """At the pictures of all prompts that are sampled for at once, before a token is."""
        if not self.work.samples or not self.length.seen:
            return {}
        shape = self.shapes[self.work.samples]
        rows = min(self.work.at_once, ceil(self.work.drawn / self.ranks) or self.work.at_once)
        through = self._through(shape, rows, self.length.context, self.compute)
        copied = self.sampling()["sampling"]["copy to sample from"]
        return {"looking at pictures": Parts({"activations": through, "copy to sample from": copied})}

    # ---- learning

    def reading(self) -> dict[str, Parts]:
        if self.work.trains:
            each = [self.learning(self.shapes[role]) for role in self.work.trains]
            return max(each, key=lambda found: max(sum(parts.values()) for parts in found.values()))
        if not self.work.read.rows:
            return {}
        models = [self.shapes[m.role] for m in self.work.still] or [self.shapes[s.role] for s in self.work.served]
        through = max(self._through(shape, self.at_once, self.length.total, self.compute) for shape in models)
        if self.work.means:  # gradients of the first
            found = self.learning(models[0], [m.role for m in self.work.still[1:]])
            return found
        states = sum(self.at_once * self.length.answer * shape.width for shape in models) * BYTES[self.compute]
        return {"reading": Parts(activations=through, head=states + self._chunk(models[0], self.at_once * self.length.answer))}

    def learning(self, shape: Shape, others: list[str] | None = None) -> dict[str, Parts]:
        """Moments of a learner's update, those that may need most."""
        rows, length, size = self.at_once, self.length.total, BYTES[self.compute]
        again = self.options.get("recompute", False)
        stays, more = kept(shape, rows, length, self.mode, again, self.rank, self._squares(shape, self.compute))
        if shape.tower:
            eyes = shape.tower.kept(self._patches(shape, rows), self.mode, again)
            stays, more = (a + b for a, b in zip((stays, more), eyes, strict=True))
        many, each = self.trained(shape) if self.work.trains else (shape.parameters, BYTES[self.compute])
        gradient = many * each / self.ranks
        cast = shape.linear * 2 if self.mode == "mixed" else 0
        begun = Parts(gradient=gradient if self.passes > 1 else 0, activations=stays)
        begun += self._gathered(shape) + self._said([m.role for m in self.work.still] if others is None else others)
        head = Parts(head=self._head(shape, rows * self.length.answer), activations=0 if again else cast)
        early = Parts(activations=0 if again and self.adapts else cast)
        late = Parts(activations=more + rows * length * (2 * shape.width + 2 * shape.inner * shape.active) * size)
        late["activations"] += shape.block * 2 if again and cast else 0
        late["head"] = 0 if self.adapts else shape.table * 4  # the gradient of its weight, until it is added to others
        update = Parts(gradient=gradient)
        last = Parts({"gradient's variance": 0 if self.adapts else VARIANCE * shape.table * each / self.ranks})
        return {
            "learning, forward": begun + early,
            "learning, at the head": begun + head,
            "learning, backward": begun + late,
            "updating": update,
            "measuring": last,
        }

    def _gathered(self, shape: Shape) -> Parts:
        """Of all processes: what is outside the blocks, with its gradient, and two blocks at a time with theirs."""
        if self.ranks == 1:
            return Parts()
        size = BYTES[self.compute]
        return Parts(gathered=shape.outside * (2 * size + 4) + 2 * shape.block * (2 * size + 4))

    def _said(self, roles: list[str]) -> Parts:
        """What other models said of the rows of a pass, or of all: hidden states; sharded, with a whole head."""
        found, read = Parts(), self.work.read
        dtypes = {m.role: m.dtype for m in self.work.still}
        rows = ceil(read.total / self.ranks) if read.survey else self.at_once
        for role in roles:
            shape, size = self.shapes[role], BYTES[dtypes[role]]
            found["teachers' states"] += rows * self.length.answer * shape.width * size
            if self.ranks > 1:
                found["gathered"] += shape.table * size
        return found

    def _head(self, shape: Shape, count: int) -> float:
        """Chunks of logits, the gradients of hidden states and of the weight, the weight in the dtype that a GPU multiplies."""
        found = self._chunk(shape, count) + count * shape.width * (4 + BYTES[self.compute])
        found += 0 if self.adapts else shape.table * 4
        return found + (shape.table * BYTES[self.compute] if self.cuda and self.mode == "mixed" else 0)

    def _chunk(self, shape: Shape, count: int) -> float:
        read = self.work.read
        size = read.logits // shape.vocab if read.logits else decisions(shape.vocab, self.cuda)
        return min(size, count) * shape.vocab * 4 * (read.tensors if self.cuda else min(read.tensors, TILED))

    def _through(self, shape: Shape, rows: int, length: int, dtype: str) -> float:
        """The widest place of a forward pass of which nothing is kept."""
        token = (4 * shape.width + 3 * shape.inner * shape.active) * BYTES[dtype]
        text = rows * length * (token + (3 * shape.heads * length * 4 if self._squares(shape, dtype) else 0))
        if not shape.tower:
            return text
        return max(text, self._patches(shape, rows) * (8 * shape.tower.width + 2 * shape.tower.inner) * BYTES[dtype])

    def _patches(self, shape: Shape, rows: int) -> int:
        """Of all that is seen of so many rows."""
        return rows * self.length.seen * shape.tower.merged

    def _squares(self, shape: Shape, dtype: str) -> bool:
        """Whether attention weights [length, length] exist: on a GPU sdpa has no other way for fp32 queries that share keys."""
        return self.options.get("attention") == "eager" or (self.cuda and dtype == "float32" and shape.heads != shape.kv)
