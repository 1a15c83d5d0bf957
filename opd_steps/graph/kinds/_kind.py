"""What a kind is: the options of its nodes, and what the graph, the rules and the report must know of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Optional

from opd_steps.config.curve_names import TRAIN
from opd_steps.config.plugs import plug
from opd_steps.config.teachers import engines
from opd_steps.graph.by_column import OF_ROWS, told_apart
from opd_steps.graph.options import Attention, Dtype, Optim, Resources, Spikes
from opd_steps.graph.train_metrics import figures

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from opd_steps.graph.cost.work import Work
    from opd_steps.graph.node import GraphNode
    from opd_steps.graph.row_lengths import Rows
    from opd_steps.store.sources import Given


@dataclass
class Node:
    """Options that every kind has.

    A kind is a file here with one dataclass that is a Node, and a step of the same name. It says, where it is not as below:

    PRODUCES   what others may read it as (`ref`): data, model, rollouts, scores; the report shows an analysis as a table, an
               evaluation as a row of the model in its role `model`
    PHASE      the target that asks for it: teachers, students or benchmarks; "" = all alone
    PLACE      where it stands in lists that follow the pipeline, from 0 (data) to 100
    START      the role whose weights and tokens its model goes on from; "" = it goes on from none
    LIKE       the role of the node whose options are its as well: what it produces is read as that node's is; "" = none
    LOCAL      its jobs run where Snakemake runs, not on a cluster's nodes
    ENV        its conda environment, a file of envs/
    CHECKED    its models are checked by the preflight, which runs before it
    VARIANTS   its nodes are the variants of a paper's method: the report says in what they differ, and which is best
    TRAINS     its step may be several processes, that train as one
    MEASURES   the role of the model that it measures; "" = what it measures is its own
    FIXED      plugs that its step runs and nobody chooses: (group, name)
    OF_DATA    groups of the plugs that its data node names and its step runs
    CODE       {(option, value): files that run where the option has the value}
    """

    PRODUCES: ClassVar[str] = ""
    PHASE: ClassVar[str] = ""
    PLACE: ClassVar[int] = 100
    START: ClassVar[str] = ""
    LIKE: ClassVar[str] = ""
    LOCAL: ClassVar[bool] = False
    ENV: ClassVar[str] = "train"
    CHECKED: ClassVar[bool] = True
    VARIANTS: ClassVar[bool] = False
    TRAINS: ClassVar[bool] = False
    MEASURES: ClassVar[str] = ""
    FIXED: ClassVar[tuple[tuple[str, str], ...]] = ()
    OF_DATA: ClassVar[tuple[str, ...]] = ()
    CODE: ClassVar[dict[tuple[str, str], tuple[str, ...]]] = {}

    kind: str = "???"
    seed: Annotated[Optional[int], "at least 0"] = None  # pin: all seeds of the run share this node
    resources: Resources = field(default_factory=Resources)

    @classmethod
    def check(cls, node: GraphNode, where: str) -> None:
        """What the types cannot say. Raises UserError, `where` being the node's place."""

    @classmethod
    def parts(cls, node: GraphNode) -> tuple[str, ...]:
        """Names of the models that it publishes beside its main one, as `node:b` names them."""
        return ()

    @classmethod
    def start(cls, node: GraphNode, part: str) -> str:
        """The role whose weights a part goes on from; "" = it goes on from none."""
        return f"learners.{part}.model" if part in node.options.get("learners", ()) else cls.START

    @classmethod
    def metrics(cls, node: GraphNode) -> list[str]:
        """Names of what the node measures itself; of a part b, "train/b/loss"."""
        return []

    @classmethod
    def directions(cls, node: GraphNode) -> dict[str, str]:
        """Metric -> which way is better, "up" or "down", "" where neither is: of what the report compares variants by."""
        return {}

    @classmethod
    def measures(cls, node: GraphNode, metric: str) -> bool:
        """Whether a claim may name this metric of it."""
        return metric in cls.metrics(node) or told_apart(node, metric, cls.apart(node))

    @classmethod
    def apart(cls, node: GraphNode) -> Container[str]:
        """The metrics that its option `by` tells apart."""
        return ()

    @classmethod
    def budget(cls, node: GraphNode, part: str = "") -> dict[str, Any]:
        """What was spent on its model or a part of it, or how it measures one, by the names of graph.equal.WHAT; {} = it cannot tell."""
        return {}

    @classmethod
    def by_prompt(cls, node: GraphNode, metric: str) -> dict[str, str] | None:
        """{file, value}: where one of its metrics stands prompt by prompt, as Suite.PROMPTS says it; None = nowhere."""
        return None

    @classmethod
    def compared(cls, node: GraphNode) -> list[tuple[GraphNode, GraphNode]]:
        """Pairs of models that it compares token by token, as the nodes where their tokens come from (GraphNode.root_of)."""
        return []

    @classmethod
    def topks(cls, node: GraphNode) -> list[tuple[str, int, GraphNode]]:
        """(option, k, node where the vocabulary comes from that must have k tokens)."""
        return []

    @classmethod
    def rows(cls, node: GraphNode, seed: int) -> list[Rows]:
        """The token rows that it makes of its data."""
        return []

    @classmethod
    def work(cls, node: GraphNode) -> Work | None:
        """What its step does with models on a card, for the estimate of memory and time; None = nothing that is estimated."""
        return None

    @classmethod
    def sources(cls, options: dict) -> dict[str, Given]:
        """What its options name by path or hub id, by the key that names it."""
        return {}

    @classmethod
    def engine_of(cls, options: dict, role: str) -> str:
        """The option whose engine samples or scores for the model that it reads in this role; "" = none."""
        return {"policy": "engine", "teacher": "teacher_engine"}.get(role, "")

    @classmethod
    def uses_gpus(cls, options: dict) -> bool:
        """Whether a step that is one process can use several GPUs: a server has its own size."""
        return any(engine["name"] == "server" for engine in engines(options).values())


@dataclass
class Running(Node):
    """What every node has that runs models."""

    dtype: Dtype = "float32"  # that models compute in; those that are not trained hold their weights in it, too
    attention: Optional[Attention] = None  # transformers' implementation; null: sdpa, where a model has it


@dataclass
class Training(Running):
    """What every training node has; `curves` are those of its metrics.jsonl, written `train/<name>`."""

    PRODUCES: ClassVar[str] = "model"
    TRAINS: ClassVar[bool] = True
    DROPOUT: ClassVar[bool] = False  # whether its step trains with dropout

    steps: Annotated[int, "at least 1"] = 100
    keep: Annotated[dict[str, int], "at least 1"] = field(
        default_factory=dict
    )  # milestones: {early: 40} keeps the model after step 40, which others read as `node:early`
    optim: Optim = field(default_factory=Optim)
    tune: Any = plug("tune", "full")  # of every learner: all of its weights, or an adapter beside them
    gradient: Any = plug("gradients", "plain")  # between the backward passes of a step and its update
    micro_batch: Annotated[int, "at least 1"] = 64  # sequences in one forward and backward pass
    micro_tokens: Annotated[Optional[int], "at least 1"] = None  # instead: tokens in one pass, of sequences of like length
    packed: bool = False  # sequences of one pass without padding, and a text that several go on from once
    checkpoint_every: Annotated[int, "at least 1"] = 50  # steps
    checkpoint_async: bool = False  # steps go on while a checkpoint is written, from a copy in the host's memory
    weights: Dtype = "float32"  # that what is trained is held in, and its moments; bfloat16 loses small updates
    published: Optional[Dtype] = None  # of the trained model's files; null: as `weights`
    recompute: bool = False  # activations: keep the blocks' inputs alone, run each block again in the backward pass
    on_nonfinite: Literal["stop", "skip"] = "stop"  # skip: leave out an update whose loss, gradient or figures are not finite
    max_skips: Annotated[int, "at least 1"] = 5  # updates left out in a row; the last of them ends the step
    spikes: Spikes = field(default_factory=Spikes)
    hooks: list[Any] = plug("hooks", many=True)  # after every step, in this order

    @classmethod
    def parts(cls, node: GraphNode) -> tuple[str, ...]:
        best = ["best"] if any(item.get("best") for item in node.options["hooks"]) else []
        return (*node.options.get("learners", ()), *node.options["keep"], *best)

    @classmethod
    def curves(cls, options: dict) -> Iterable[str]:
        return TRAIN

    @classmethod
    def metrics(cls, node: GraphNode) -> list[str]:
        return figures(cls.curves(node.options), node.options)

    @classmethod
    def uses_gpus(cls, options: dict) -> bool:
        return True


@dataclass
class SamplingTraining(Training):
    """What trainings have that sample."""

    by: str = (
        ""  # a column of the data, e.g. domain: reward, length, truncated also of each of its values, `train/reward/maths`
    )

    @classmethod
    def apart(cls, node: GraphNode) -> set[str]:
        return {metric for metric in cls.metrics(node) if metric.rpartition("/")[2] in OF_ROWS}
