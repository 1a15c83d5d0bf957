"""What a step of flows holds at a time (as needs.py), and how long it takes: a decision is an image's next latent."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING

from opd_steps.config.teachers import method_of, origin, sources
from opd_steps.graph.checks.processes import processes
from opd_steps.graph.cost.around import ALIKE, around, pictured, shows, task
from opd_steps.graph.cost.flow import BOTH
from opd_steps.graph.cost.needs import MEAN, Needs, Parts
from opd_steps.graph.cost.rows import Length
from opd_steps.graph.cost.shape import BYTES

if TYPE_CHECKING:
    from opd_steps.graph.cost.flow import Flow
    from opd_steps.graph.cost.work import Work
    from opd_steps.graph.node import GraphNode

PIXEL, SIDE = 3 * 256, 8  # numbers of a pixel at the VAE's widest place; pixels of a latent's
ALIVE, HEARD = 14, 1  # latents of each decision while a loss looks at it; of each teacher's answer
DRAWN, KEPT = 6, 3  # and while it is drawn; on a GPU: noise, states, their copy for the host, which keeps the rest
# measured: tests/unit/test_cost_drawing.py


def drawing(node: GraphNode, work: Work, shapes: dict[str, Flow]) -> Drawing | str:
    """What is to be added up; in words, why nobody knows it."""
    beside = around(node, work.roles, judged=bool(work.samples or work.drawn))
    if isinstance(beside, str):
        return beside
    told = max((s.shown if pictured(node) else s.told for s in shapes.values()), default=0)
    heard = max((s.shown if shows(node) else s.told for s in shapes.values()), default=0)
    return Drawing(node.options, work, shapes, Length(told, decisions(node), heard), processes(node), beside)


def decisions(node: GraphNode) -> int:
    """Of a row, at most: steps from noise to an image, or points of a line to one that there is."""
    o, data = node.options, node.parents.get("data")
    if node.kind == "opd":
        found = [origin(source, o) for name in ("", *o["learners"]) for source in sources(method_of(o, name))]
        return max(source["draws"] if source["name"] == "straight" else o["sampling"]["max_new_tokens"] for source in found)
    if "sampling" in o or "max_new_tokens" in o:
        return o["sampling"]["max_new_tokens"] if "sampling" in o else o["max_new_tokens"]
    if data.says.PRODUCES == "rollouts":
        return data.options["sampling"]["max_new_tokens"]
    return task(node).get("draws", 1)


@dataclass(frozen=True)
class Drawing(Needs):
    """length   context: tokens of a prompt; answer: decisions of a row; teacher: tokens of a prompt with what a teacher is shown
    beside   bytes of what stands around the flows (around.py)
    """

    beside: dict[str, float] = field(default_factory=dict)

    def held(self) -> Parts:
        """Buffers are whole on each process."""
        found = super().held() + Parts(self.beside)
        for role in self.work.trains:
            found["weights"] += self.shapes[role].buffers * BYTES[self.weights]
        for model in self.work.still:
            found["teachers" if self.work.trains else "weights"] += self.shapes[model.role].buffers * BYTES[model.dtype]
        return found

    # ---- sampling

    @property
    def drawer(self) -> str:
        """Who draws images: the student, or a teacher whose images are learned from; "": nobody."""
        return self.work.samples or (self.work.still[0].role if self.work.drawn and self.work.still else "")

    @property
    def steps(self) -> int:
        """From noise to an image."""
        return self.options["sampling"]["max_new_tokens"] if "sampling" in self.options else self.length.answer

    def sampling(self) -> dict[str, Parts]:
        if not self.drawer:
            return {}
        flow, learns = self.shapes[self.drawer], self.drawer in self.work.trains
        at_once = self.work.at_once or self.options["engine"]["batch"]
        rows = min(at_once, ceil(self.work.drawn / self.ranks) or at_once)
        found = Parts(activations=flow.through(rows, self.length.context, self.mode if learns else self.compute))
        found["latents"] = rows * ((KEPT if self.cuda else DRAWN) * self.steps + 2) * flow.numbers * 4
        if self.ranks > 1:
            found["copy to sample from"] = flow.parameters * BYTES[self.compute]
        elif learns:
            found["copy to sample from"] = self._cast(flow, not self.adapts)
        return {"sampling": found, "making images": Parts(activations=self._image(flow))}

    def _image(self, flow: Flow) -> int:
        """At the VAE's widest place; of a flow without one, latents are the pixels."""
        return PIXEL * (SIDE * flow.side) ** 2 * ALIKE[self.cuda] if self.beside else 0

    def looking(self) -> dict[str, Parts]:
        return {}

    # ---- learning

    def reading(self) -> dict[str, Parts]:
        """Finished flows are looked at by what they sample, unless gradients are measured."""
        if self.work.trains:
            each = [self.learning(self.shapes[role]) for role in self.work.trains]
            return max(each, key=lambda found: max(sum(parts.values()) for parts in found.values()))
        if not self.work.means:
            return {}
        return self.learning(self.shapes[self.work.still[0].role], [m.role for m in self.work.still[1:]])

    def learning(self, flow: Flow, others: list[str] | None = None) -> dict[str, Parts]:
        others = [m.role for m in self.work.still] if others is None else others
        decided, told, size = self.at_once * self.length.answer, self.length.context, BYTES[self.compute]
        again, targets = self.options.get("recompute", False), self.options.get("tune", {}).get("targets")
        stays, more = flow.kept(decided, told, self.mode, again, self.rank, targets, self.ranks > 1)
        many, each = self.trained(flow) if self.work.trains else (flow.parameters, BYTES[self.compute])
        gradient = many * each / self.ranks
        heard = ceil(self.work.read.total / self.ranks) * self.length.answer if self.work.read.survey else decided
        latents = flow.numbers * 4 * (ALIVE * decided + HEARD * heard * len(others))
        before = Parts(gradient=gradient if self.passes > 1 else 0) + self._gathered(flow)
        begun = before + Parts(activations=stays * flow.passes, latents=latents)
        cast = 0 if again else self._cast(flow, flow.passes)
        # gradients, as wide as a block is; what was kept goes as they come
        widest = decided * flow.tokens(told)[BOTH] * (flow.width + flow.inner) * size
        more += flow.block * 2 if again and self.mode == "mixed" else 0
        asked = max((self._asked(role, decided) for role in others), default=0)
        last = MEAN * max(layer.ins * layer.outs for layer in flow.layers)
        return {
            "asking teachers": before + Parts(activations=asked),
            "learning, forward": begun + Parts(activations=cast),
            "learning, backward": begun + Parts(activations=cast + more + widest, gradient=gradient if self.passes == 1 else 0),
            "updating": Parts({"gradient": gradient, "gradient's variance": 0 if self.adapts else last / self.ranks}),
        }

    def _asked(self, role: str, decided: int) -> int:
        """A model that is held in fp32 is computed with as the others are."""
        model = next(m for m in self.work.still if m.role == role)
        mode = self.compute if model.dtype == self.compute else "mixed"
        return self.shapes[role].through(decided, self.length.teacher, mode)

    def _cast(self, flow: Flow, times: int) -> int:
        """What autocast makes of fp32 weights and keeps: of those that are trained, or while a backward pass is to come."""
        return flow.linear * BYTES[self.compute] * times if self.mode == "mixed" else 0

    def _gathered(self, flow: Flow) -> Parts:
        """Of all processes: what is outside the blocks, and two blocks at a time; with their gradients, where they have any."""
        if self.ranks == 1:
            return Parts()
        size = BYTES[self.compute] * (1 if self.adapts else 2) + (0 if self.adapts else 4)
        return Parts(gathered=(flow.outside + 2 * flow.block) * size)

    # ---- time

    def operations(self) -> float:
        """Of a step, on a process: samples, the learners' passes, those of the models that are asked beside."""
        work, told = self.work, self.length.context
        one = lambda role, told: self.shapes[role].passes * self.shapes[role].operations(told)
        drawn = ceil(work.drawn / self.ranks) * self.steps * one(self.drawer, told) if self.drawer else 0.0
        rows = self.learned if work.trains else 0
        learned = sum(self.forwards * one(role, told) for role in work.trains)
        asked = sum(one(model.role, self.length.teacher) for model in work.still)
        return drawn + self.length.answer * rows * (learned + asked)
