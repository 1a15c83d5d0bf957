"""config.yaml and paper files: every key, typed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, Optional

from opd_steps.config.plugs import plug


@dataclass
class Tracking:
    """Where results are shown."""

    CHECKS: ClassVar[tuple[str, ...]] = ("len(uri) >= 1", "len(experiment) >= 1")

    uri: str = "sqlite:///results/mlflow.db"  # MLflow store, or the http(s) address of a server
    experiment: str = "distillery"


@dataclass
class Root:
    """What to run; any key may also stand behind --config."""

    CHECKS: ClassVar[tuple[str, ...]] = (
        "len(papers) >= 1",
        "len(seeds) >= 1",
        "unique(papers)",
        "unique(seeds)",
        "unique(benchmarks)",
    )

    papers: list[str] = field(default_factory=lambda: ["quickstart"])  # names in workflow/papers, paths of YAML files, or all
    seeds: Annotated[list[int], "at least 0"] = field(default_factory=lambda: [0])
    scale: str = "tiny"
    engine: Literal["local", "vllm", "server"] = "local"  # of every node that does not name its own
    teacher_engine: Literal["local", "vllm", "server"] = "local"  # the same for teachers
    tune: Any = plug("tune", "full")  # what trainings change of their models, of every node that does not name its own
    benchmarks: list[str] = field(default_factory=list)  # lm-eval tasks added to every evaluation
    paths: dict[str, str] = field(default_factory=dict)  # hub ids or folders that papers name as ${paths.<key>}
    tracking: Tracking = field(default_factory=Tracking)


@dataclass
class Axes:
    """The four axes of the field's reading lists; they become MLflow tags."""

    teacher: str = ""
    signal: str = ""
    rollouts: str = ""
    slot: str = ""


@dataclass
class PaperMeta:
    """What a paper is."""

    title: str = "???"
    arxiv: str = ""
    external_data: bool = False  # needs a data set from outside at every scale: `papers=all` leaves it out
    axes: Axes = field(default_factory=Axes)
    notes: str = ""


@dataclass
class Precondition:
    """Without `left op right`, of the means over the seeds that ran, a claim that requires it is not testable here."""

    CHECKS: ClassVar[tuple[str, ...]] = ("len(why) >= 1",)

    left: str = "???"  # as in a claim
    op: Literal["<", ">"] = ">"
    right: Any = "???"
    why: str = "???"  # the paper's own argument


@dataclass
class Claim:
    """`left op right`, paired by seed, judged by its interval; see opd_steps/findings/claims.py."""

    CHECKS: ClassVar[tuple[str, ...]] = ("len(id) >= 1", "len(says) >= 1", "unique(requires)")

    id: str = "???"
    says: str = "???"  # the paper's sentence
    left: str = "???"  # node.metric, or a difference: node.metric - node.metric
    op: Literal["<", ">", "=", ">=", "<="] = ">"  # the last three with a margin: as good as, no worse than, no more than
    right: Any = "???"  # the same, or a number
    margin: Annotated[Optional[float], "above 0"] = None  # of = >= <=: how large a difference counts as none
    requires: list[str] = field(default_factory=list)  # preconditions, of this paper or of one that it uses
    test: Literal["t", "sign"] = "t"
    unequal: dict[str, str] = field(default_factory=dict)  # what is meant to differ between the sides, and why: {steps: ...}
    same_contract: bool = False  # are models, data and budget the paper's own?
    differs: str = ""  # if not, in what
    reported: str = ""  # the paper's own figure


@dataclass
class EvaluateSpec:
    """Which nodes to evaluate, and the options that these evaluations share (those of the evaluate kind)."""

    CHECKS: ClassVar[tuple[str, ...]] = ("unique(models)", "'kind' not in options and 'model' not in options")

    models: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Scale:
    """Options of a paper's nodes at one scale, or a file of its own where other nodes and claims are wanted there."""

    CHECKS: ClassVar[tuple[str, ...]] = (
        "'kind' not in evaluate and 'model' not in evaluate",
        "file == '' or len(kinds) + len(nodes) + len(evaluate) == 0",
    )

    file: str = ""  # beside the paper's own: a paper file that stands for it at this scale; it inherits title, arxiv and axes

    kinds: dict[str, Any] = field(default_factory=dict)  # options by kind
    nodes: dict[str, Any] = field(default_factory=dict)  # options by node; they win; of a used paper's node they make a copy
    evaluate: dict[str, Any] = field(default_factory=dict)


@dataclass
class Paper:
    """workflow/papers/<name>.yaml."""

    paper: PaperMeta = field(default_factory=PaperMeta)
    use: list[str] = field(default_factory=list)  # a paper, or a list of papers, whose nodes and budgets this one shares
    vars: dict[str, Any] = field(default_factory=dict)  # for interpolation: ${vars.lr}
    nodes: dict[str, Any] = field(default_factory=dict)
    evaluate: EvaluateSpec = field(default_factory=EvaluateSpec)
    scales: dict[str, Scale] = field(default_factory=dict)
    preconditions: dict[str, Precondition] = field(default_factory=dict)  # by the name under which claims require them
    claims: list[Claim] = field(default_factory=list)
