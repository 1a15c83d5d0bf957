"""On-policy distillation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Optional

from opd_steps.config.needs import label, terms
from opd_steps.config.plugs import constant, plug
from opd_steps.config.teachers import method_of, named, origin, samplers, samples, sources
from opd_steps.graph import opd_needs
from opd_steps.graph.budget import tokens_of, training
from opd_steps.graph.checks.opd import check_opd
from opd_steps.graph.cost.distilling import distilled
from opd_steps.graph.cost.work import Work
from opd_steps.graph.kinds._kind import SamplingTraining
from opd_steps.graph.method import Buffer, LearnerOptions, Method, TeacherOptions
from opd_steps.graph.options import Dtype, Engine, Sampling, TeacherEngine, Trainer, ref
from opd_steps.graph.row_lengths import Rows
from opd_steps.graph.train_metrics import opd_curves

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode


@dataclass
class OpdNode(SamplingTraining):
    """On-policy distillation: the student samples, the teacher scores every token."""

    PHASE: ClassVar[str] = "students"
    PLACE: ClassVar[int] = 70
    VARIANTS: ClassVar[bool] = True
    START: ClassVar[str] = "student"
    OF_DATA: ClassVar[tuple[str, ...]] = ("tasks/worlds", "tasks/verifiers", "tasks/hints")

    CHECKS: ClassVar[tuple[str, ...]] = ("minibatches <= prompts * sampling.n",)

    student: str = ref("model")
    data: str = ref("data")
    teacher: Optional[str] = ref("model", required=False)
    scores: Optional[str] = ref("scores", required=False)  # instead of a live teacher
    reference: Optional[str] = ref("model", required=False)  # for terms against it and for extrapolation beyond it
    pass_rates: Optional[str] = ref("rollouts", required=False)  # for select: several samples a prompt, with their rewards
    teacher_rates: Optional[str] = ref("rollouts", required=False)  # for select: a teacher's samples of the same prompts
    answers: Optional[str] = ref("rollouts", required=False)  # for judges: a teacher's texts, of which nothing else is read
    texts: Optional[str] = ref(
        "rollouts", required=False
    )  # for sources that read a text column of the data: one sample of each prompt in its place
    update_of: Optional[str] = ref("model", required=False)  # for hooks: a finished model that started where this one starts
    teacher_source: Any = plug("teachers/sources", "frozen")  # where the teacher's weights come from as training goes on
    teacher_dtype: Optional[Dtype] = None  # of `teacher`; null: the node's
    context: Any = plug("teachers/contexts", "plain")  # what the teacher sees in place of the prompt
    select: Any = plug("tasks/selection", "uniform")  # prompts of a step
    prompts: Annotated[int, "at least 1"] = 32  # prompts per step
    sampling: Sampling = field(default_factory=Sampling)
    engine: Engine = field(default_factory=Engine)
    trainer: Trainer = field(default_factory=Trainer)
    teacher_engine: TeacherEngine = field(default_factory=TeacherEngine)
    teachers: dict[str, TeacherOptions] = field(
        default_factory=dict
    )  # by name; `teacher`, `scores`, `reference` are short forms
    method: Method = field(default_factory=Method)
    learners: dict[str, LearnerOptions] = field(default_factory=dict)  # beside the student, by name
    judges: list[Any] = plug("judges", many=True)  # of the rows of a step, beside the task's own, in this order
    teacher_consistency: Literal["stop", "warn"] = "stop"  # cached scores: must the SFT traces come from the same teacher?
    minibatches: Annotated[int, "at least 1"] = 1  # optimizer steps per rollout batch
    buffer: Buffer = field(default_factory=Buffer)
    controllers: list[Any] = plug("schedules", many=True)  # each sets one option above while the node trains

    @classmethod
    def check(cls, node: GraphNode, where: str) -> None:
        check_opd(node, where)

    @classmethod
    def curves(cls, options: dict) -> Iterable[str]:
        return opd_curves(options)

    @classmethod
    def metrics(cls, node: GraphNode) -> list[str]:
        """Beside the curves: how many sequences teachers' models have read, each counted once for every teacher (curve teacher_rows)."""
        return [*super().metrics(node), "teacher/sequences"]

    @classmethod
    def engine_of(cls, options: dict, role: str) -> str:
        kind, _, rest = role.partition(".")
        name = rest.partition(".")[0]
        if kind == "learners":
            return "engine" if samples(options, name) else ""
        return (
            f"teachers.{name}.engine"
            if kind == "teachers"
            else {"student": "engine", "teacher": "teacher_engine"}.get(role, "")
        )

    @classmethod
    def budget(cls, node: GraphNode, part: str = "") -> dict[str, Any]:
        o, learner = node.options, part if part in node.options["learners"] else ""
        looked_at = {label(row["rows"]) for row in terms(method_of(o, learner))}  # sources of rows, each as many a step
        rows, optim = o["prompts"] * o["sampling"]["n"] * len(looked_at), o["learners"].get(part, o)["optim"]
        return training(node, part, rows, optim, cls._tokens(node, learner))

    @classmethod
    def _tokens(cls, node: GraphNode, learner: str) -> int | str | None:
        """The cap on what a policy writes for a learner, which is nobody's where a data set alone is read."""
        if cached := next((parent for parent in node.parents.values() if parent.says.PRODUCES == "scores"), None):
            return tokens_of(cached.parents["rollouts"])
        made = [origin(source, node.options) for source in sources(method_of(node.options, learner))]
        writes = any(constant("prefixes", source["name"], "OWN") or samplers(source) for source in made)
        return tokens_of(node) if writes else None

    @classmethod
    def compared(cls, node: GraphNode) -> list[tuple[GraphNode, GraphNode]]:
        found = []
        for teaching in named(node.options, node.parents).values():
            if teaching.scores:
                found.append(node.parents[teaching.scores].root_of("teacher"))
            elif teaching.model and not constant("teachers/sources", teaching.weights["name"], "OTHER_TOKENIZER"):
                found.append(node.root_of(teaching.model))
        return [(node.root_of("student"), other) for other in found]

    @classmethod
    def topks(cls, node: GraphNode) -> list[tuple[str, int, GraphNode]]:
        return [(key, k, node.root_of("student")) for key, k in opd_needs.topk(node.options)]

    @classmethod
    def work(cls, node: GraphNode) -> Work:
        return distilled(node)

    @classmethod
    def rows(cls, node: GraphNode, seed: int) -> list[Rows]:
        return opd_needs.rows(node, seed)
