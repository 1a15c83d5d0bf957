"""What a step does with models, as far as a card's memory and time depend on it: plain data, told by the node's kind."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from opd_steps.config.plugs import constant

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode

OWN_ROWS, OWN_LOGITS = 64, 1 << 25  # at once where finished models are looked at side by side (evaluation.points)
SAMPLED = 5  # tensors [decisions, vocabulary] that live together where a loss looks at sampled or some tokens (tests/unit/test_cost_head.py)


@dataclass(frozen=True)
class Held:
    """A model in memory that is not trained: the role in which it is read, and the dtype of its weights."""

    role: str
    dtype: str


@dataclass(frozen=True)
class Served:
    """A model behind a vLLM engine, on the step's GPU or on its own: `options` of the engine, which stand at `key`."""

    role: str
    key: str
    options: dict
    dtype: str


@dataclass(frozen=True)
class Read:
    """A pass over rows.

    rows     at once; `total`: in a step
    tensors  of [decisions, vocabulary] that live together, at most; `logits`: of one model at once, 0: as the chunked head has them
    survey   whether a first pass keeps what teachers say of all rows for a second
    """

    rows: int = 0
    total: int = 0
    tensors: int = SAMPLED
    logits: int = 0
    survey: bool = False


@dataclass(frozen=True)
class Work:
    """trains   roles of its learners
    still    models that stay as they are; those that are averages of a learner among them
    served   models behind engines
    samples  the role that samples through torch, "" for none: `drawn` rows of `prompts` prompts, `at_once` together
    read     the pass that learns, or that scores
    means    gradients of the first still model that are kept in fp64
    steps    how often all that is done; 0: nobody knows yet
    """

    trains: tuple[str, ...] = ()
    still: tuple[Held, ...] = ()
    served: tuple[Served, ...] = ()
    samples: str = ""
    drawn: int = 0
    prompts: int = 0
    at_once: int = 0
    read: Read = field(default_factory=Read)
    means: int = 0
    steps: int = 1

    @property
    def roles(self) -> tuple[str, ...]:
        """Of all its models."""
        return (*self.trains, *(m.role for m in self.still), *(m.role for m in self.served))


def adapts(options: dict) -> bool:
    """Whether a training puts adapters beside frozen weights."""
    return constant("tune", options["tune"]["name"], "ADAPTS")


def supervised(node: GraphNode) -> Work:
    """Cross-entropy on rows of a table or a text."""
    o = node.options
    return Work(trains=(node.says.START,), read=Read(o["micro_batch"], o["batch"]), steps=o["steps"])


def reinforced(node: GraphNode) -> Work:
    """Groups of samples; the anchor is a second model, unless an adapter can be set aside."""
    o, role = node.options, node.says.START
    rows = o["prompts"] * o["sampling"]["n"]
    anchor = (Held(role, o["dtype"]),) if o["kl"] and not adapts(o) else ()
    read = Read(o["micro_batch"], rows // o["minibatches"])
    work = Work((role,), anchor, read=read, drawn=rows, prompts=o["prompts"], steps=o["steps"])
    return by_engine(node, role, work)


def sampled(node: GraphNode, roles: tuple[str, ...], split: str) -> Work:
    """Samples of the prompts of a split, by finished models."""
    o = node.options
    prompts = o["limit"] or rows_of(node.parents["data"], split)
    still = tuple(Held(role, o["dtype"]) for role in roles) if o["engine"]["name"] == "local" else ()
    work = Work(still=still, prompts=prompts, steps=int(prompts > 0))
    work = replace(work, drawn=prompts * o["sampling"]["n"])
    for role in roles[::-1]:
        work = by_engine(node, role, work)
    return work


def rows_of(data: GraphNode, split: str) -> int:
    """How many rows a split has, as far as the data node's options say; 0: nobody knows yet."""
    source = data.origin.options["source"]
    found = source.get(split) or source.get(f"{split}_rows")
    return found if isinstance(found, int) else 0


def scored(node: GraphNode) -> Work:
    """A finished model reads the rows of a table once."""
    o, rollouts = node.options, node.parents["rollouts"]
    rows = sampled(rollouts, ("policy",), rollouts.options["split"]).drawn
    engine, role = o["teacher_engine"], "teacher"
    held = (Held(role, o["dtype"]),) if engine["name"] == "local" else ()
    served = () if held or engine.get("url") else (Served(role, "teacher_engine", engine, engine["dtype"] or o["dtype"]),)
    return Work(still=held, served=served, read=Read(o["micro_batch"], rows), steps=int(rows > 0))


def by_engine(node: GraphNode, role: str, work: Work) -> Work:
    """The same with whoever samples for a role: the engine that `engine` names, or the torch model."""
    engine = node.options["engine"]
    if engine["name"] != "local":
        served = Served(role, "engine", engine, engine["dtype"] or node.options["dtype"])
        return replace(work, served=(*work.served, served), at_once=engine["batch"])
    return replace(work, samples=role, at_once=min(engine["batch"], work.drawn or engine["batch"]))


def looked_at(node: GraphNode, roles: tuple[str, ...], read: Read, means: int = 0) -> Work:
    """Finished models side by side, the first of which samples; as many rows at once as `batch` says."""
    there = tuple(Held(role, node.options["dtype"]) for role in roles if role in node.parents)
    return Work(still=there, samples=roles[0], at_once=node.options["batch"], read=read, means=means, steps=0)


def own(batch: int) -> Read:
    """Finished models side by side at rows of the node's own."""
    return Read(min(OWN_ROWS, batch), logits=OWN_LOGITS)
