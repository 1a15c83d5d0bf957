"""The stage kinds: one dataclass each, with every option, its unit and its default. Roles name the nodes that a kind reads.

`ref(...)` fields hold the name of another node; their metadata says which kinds may stand there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, Optional

from opd_steps.config.plugs import plug

MODELS = ("model", "pretrain", "sft", "rl", "opd")
PLUGS = "objectives"
ANALYSES = "analyses"
ANALYZED = ("other", "peer", "teacher", "data")  # what an analysis may need beside `model`


def ref(*kinds: str, required: bool = True) -> Any:
    return field(default="???" if required else None, metadata={"ref": kinds})


@dataclass
class Optim:
    """AdamW with a learning-rate schedule over the node's steps."""

    CHECKS: ClassVar[tuple[str, ...]] = ("len(betas) == 2",)

    lr: Annotated[float, "at least 0"] = 1e-3
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup: Annotated[float, "0 to 1"] = 0.0  # share of the steps
    betas: Annotated[list[float], "at least 0, below 1"] = field(default_factory=lambda: [0.9, 0.95])
    eps: Annotated[float, "above 0"] = 1e-8
    weight_decay: Annotated[float, "at least 0"] = 0.0
    clip: Annotated[float, "at least 0"] = 1.0  # gradient norm; 0 = off


@dataclass
class Resources:
    """What the node's job asks of the executor."""

    gpu: Annotated[int, "at least 0"] = 0
    processes: Annotated[int, "at least 0"] = 0  # a training's, each with a share of the rows and weights; 0 = one for each GPU
    cpus: Annotated[int, "at least 1"] = 1  # of all processes together
    mem_mb: Annotated[int, "at least 1"] = 4000
    runtime: Annotated[int, "at least 1"] = 60  # minutes


@dataclass
class Engine:
    """Who generates: `local`, this package's batched decode, or `vllm` in the step's own process."""

    name: Literal["local", "vllm"] = "local"
    batch: Annotated[int, "at least 1"] = 256  # rows decoded at once
    # of vllm alone:
    tensor_parallel: Annotated[int, "at least 1"] = 1  # GPUs
    memory: Annotated[float, "above 0, below 1"] = 0.4  # share of the GPU's memory, beside the trainer's
    kv_cache_mb: Annotated[int, "at least 0"] = 0  # instead of that share; 0 on a CPU: 256
    max_model_len: Annotated[int, "at least 0"] = 0  # tokens of prompt and answer; 0 = the model's own
    eager: bool = False  # no CUDA graphs; always so on a CPU
    tolerance: Annotated[Optional[float], "above 0"] = None  # nats that log-probs may differ; null: .001, in bfloat16 .5


@dataclass
class TeacherEngine(Engine):
    """Who scores for the teacher: the torch model itself, `vllm` in the step's process, or a `vllm serve` that the step runs."""

    name: Literal["local", "vllm", "server"] = "local"
    url: str = ""  # server: one that runs already, instead of one of the step's own
    port: Annotated[int, "0 to 65535"] = 0  # server: 0 = a free one
    start_timeout: Annotated[int, "at least 1"] = 600  # seconds


@dataclass
class Sampling:
    """How answers are drawn."""

    n: Annotated[int, "at least 1"] = 1  # samples per prompt
    temperature: Annotated[float, "at least 0"] = 1.0
    max_new_tokens: Annotated[int, "at least 1"] = 32
    top_p: Annotated[float, "above 0, at most 1"] = 1.0


@dataclass
class Node:
    """Options that every kind has."""

    kind: str = "???"
    seed: Annotated[Optional[int], "at least 0"] = None  # pin: all seeds of the run share this node
    resources: Resources = field(default_factory=Resources)


@dataclass
class DataNode(Node):
    """Prompts with verifiable answers, in train / test / ood splits."""

    task: Any = plug("tasks/worlds", "prompts")  # what is asked, and of whom; it says which of the other options it reads
    source: Any = plug("tasks/sources", "arithmetic")
    verifier: Any = plug("tasks/verifiers", "numeric")
    drop_unreadable: bool = False  # leave out rows whose answer the verifier cannot read, instead of refusing the data
    hints: Any = plug("tasks/hints", "none")  # how attempts are shown in front of a prompt, where a context is privileged
    chat: bool = False  # render prompts through the tokenizer's chat template
    system: Optional[str] = None  # system message, with chat
    bos: Literal["auto", "always", "never"] = (
        "auto"  # in front of prompts; auto: the tokenizer's own rule, or the chat template's
    )


@dataclass
class ModelNode(Node):
    """Weights to start from: `path` (HF id or folder), or a fresh model of a transformers config with a tokenizer."""

    family: Any = plug("models/families", "causal_lm")  # what kind of model it is; it says which of the other options it reads
    path: Optional[str] = None
    revision: Optional[str] = None
    architecture: str = "qwen3"  # transformers model type of a fresh model
    config: dict[str, Any] = field(default_factory=dict)  # its config's fields
    tokenizer: str = (
        "char"  # "char" (a token a character of `data`), "bpe" (learned from `data`), "byte", or an HF id or folder
    )
    data: Optional[str] = ref("data", required=False)


@dataclass
class Training(Node):
    """What every training node has."""

    steps: Annotated[int, "at least 1"] = 100
    optim: Optim = field(default_factory=Optim)
    micro_batch: Annotated[int, "at least 1"] = 64  # sequences in one forward and backward pass
    checkpoint_every: Annotated[int, "at least 1"] = 50  # steps
    dtype: Literal["float32", "bfloat16"] = "float32"
    on_nonfinite: Literal["stop", "skip"] = "stop"  # skip: leave out an update whose loss, gradient or figures are not finite
    max_skips: Annotated[int, "at least 1"] = 5  # updates left out in a row; the last of them ends the step


@dataclass
class PretrainNode(Training):
    """Next-token training on the task's corpus (prompt and noisy solution)."""

    model: str = ref(*MODELS)
    data: str = ref("data")
    column: str = "corpus"  # text column of the train split
    batch: Annotated[int, "at least 1"] = 64
    loss_on: Literal["all", "response"] = "all"


@dataclass
class SftNode(Training):
    """Supervised fine-tuning on response tokens, end token included."""

    student: str = ref(*MODELS)
    data: str = ref("rollout", "data")  # traces, or a data set's `column`
    column: str = "solution"
    batch: Annotated[int, "at least 1"] = 64


@dataclass
class RlNode(Training):
    """GRPO with Dr.GRPO and DAPO as switches of the same code (arXiv 2402.03300, 2503.20783, 2503.14476)."""

    CHECKS: ClassVar[tuple[str, ...]] = (
        "len(rewards) == 2",
        "rewards[0] < rewards[1]",
        "overlong_buffer < sampling.max_new_tokens",
        "minibatches <= prompts * sampling.n",
    )

    policy: str = ref(*MODELS)
    data: str = ref("data")
    prompts: Annotated[int, "at least 1"] = 16  # prompts per step
    sampling: Sampling = field(default_factory=lambda: Sampling(n=8))
    engine: Engine = field(default_factory=Engine)
    advantage: Literal["group_mean", "leave_one_out"] = "group_mean"
    divide_by_std: bool = True  # Dr.GRPO: false
    aggregate: Literal["token_mean", "seq_mean", "window_mean", "seq_sum"] = (
        "seq_mean"  # DAPO: token_mean; Dr.GRPO: window_mean
    )
    clip_low: Annotated[float, "0 to 1"] = 0.2
    clip_high: Annotated[float, "at least 0"] = 0.2  # DAPO: .28
    kl: Annotated[float, "at least 0"] = 0.0  # weight of the k3 anchor to the initial policy; GRPO: .04
    dynamic_sampling: bool = False  # DAPO: drop groups without spread and refill
    max_refills: Annotated[int, "at least 1"] = 10  # generation batches for one step, then an error
    rewards: Annotated[list[float], "any"] = field(default_factory=lambda: [0.0, 1.0])  # wrong, right; DAPO: [-1, 1]
    overlong_buffer: Annotated[int, "at least 0"] = 0  # tokens; soft penalty before max_new_tokens; 0 = off
    minibatches: Annotated[int, "at least 1"] = 1  # optimizer steps per rollout batch


@dataclass
class RolloutNode(Node):
    """Samples of a policy on a split, written as the rollouts table."""

    policy: str = ref(*MODELS)
    data: str = ref("data")
    split: Literal["train", "test", "ood"] = "train"
    limit: Annotated[int, "at least 0"] = 0  # prompts; 0 = all
    keep: Literal["all", "correct"] = "all"  # correct: rejection sampling
    sampling: Sampling = field(default_factory=Sampling)
    engine: Engine = field(default_factory=Engine)


@dataclass
class ScoreNode(Node):
    """A teacher's log-probabilities of given rollouts, written as the scores table."""

    rollouts: str = ref("rollout")
    teacher: str = ref(*MODELS)
    topk: Annotated[int, "at least 0"] = 0  # also store the teacher's k likeliest tokens; 0 = sampled token alone
    teacher_engine: TeacherEngine = field(default_factory=TeacherEngine)
    micro_batch: Annotated[int, "at least 1"] = 64


@dataclass
class Prefix:
    """Whose tokens the states come from."""

    source: Literal["student", "teacher", "dataset", "mixture", "token_mix"] = "student"
    student_share: Annotated[float, "0 to 1"] = 0.5  # mixture: probability that a step uses student rollouts (GKD's lambda)
    teacher_share: Annotated[float, "above 0, below 1"] = 0.2  # token_mix: a token comes from the teacher so often (MiniLLM)
    column: str = "solution"  # rows of the data set: text column of the train split


@dataclass
class Term:
    """One term of the objective: which divergence, where, and how its gradient is estimated."""

    target: Any = plug(f"{PLUGS}/targets", "teacher")
    support: Any = plug(f"{PLUGS}/supports", "sampled")
    signal: Any = plug(f"{PLUGS}/signals", "log_ratio")
    estimator: Any = plug(f"{PLUGS}/estimators", "pg")
    baseline: Any = plug(f"{PLUGS}/baselines", "none")
    transform: list[Any] = plug(f"{PLUGS}/transforms", many=True)  # of the advantage, in this order
    weight: list[Any] = plug(f"{PLUGS}/weights", many=True)
    coef: Annotated[float, "any"] = 1.0
    against: Literal["teacher", "reference", "sampler"] = (
        "teacher"  # sampler: the policy that made the rollouts, as it was then
    )
    rows: Literal["prefix", "student", "teacher", "dataset"] = (
        "prefix"  # which rows the term looks at; prefix: the method's own
    )


@dataclass
class Method(Term):
    """A method is a row of plug points; the defaults are vanilla on-policy distillation."""

    prefix: Prefix = field(default_factory=Prefix)
    aggregate: Literal["token_mean", "seq_mean", "window_mean", "seq_sum"] = "token_mean"
    advantage: Literal["group_mean", "leave_one_out"] = "group_mean"  # of outcome rewards, for the parts that use them
    divide_by_std: bool = True
    add: list[Term] = field(default_factory=list)  # further terms


@dataclass
class Buffer:
    """Rollouts made ahead of their use. The default is on-policy: each step trains on samples of its own weights."""

    batches: Annotated[int, "at least 1"] = 1  # steps' worth of rollouts that one version of the weights makes at once
    passes: Annotated[int, "at least 1"] = 1  # times that they are trained on before the weights of that moment make new ones
    mixed: bool = False  # every step mixes rollouts of all ages 0 .. batches - 1, each trained on once: an asynchronous run
    metric: str = ""  # e.g. freshness: make new ones early, when train/<metric> falls
    below: Annotated[float, "any"] = 0.0  # under this value


@dataclass
class OpdNode(Training):
    """On-policy distillation: the student samples, the teacher scores every token."""

    CHECKS: ClassVar[tuple[str, ...]] = ("minibatches <= prompts * sampling.n",)

    student: str = ref(*MODELS)
    data: str = ref("data")
    teacher: Optional[str] = ref(*MODELS, required=False)
    scores: Optional[str] = ref("score", required=False)  # instead of a live teacher
    reference: Optional[str] = ref(*MODELS, required=False)  # for terms against it and for extrapolation beyond it
    pass_rates: Optional[str] = ref("rollout", required=False)  # for select: several samples a prompt, with their rewards
    update_of: Optional[str] = ref(*MODELS, required=False)  # for hooks: a finished model that started where this one starts
    teacher_source: Any = plug("teachers/sources", "frozen")  # where the teacher's weights come from as training goes on
    context: Any = plug("teachers/contexts", "plain")  # what the teacher sees in place of the prompt
    select: Any = plug("tasks/selection", "uniform")  # prompts of a step
    prompts: Annotated[int, "at least 1"] = 32  # prompts per step
    sampling: Sampling = field(default_factory=Sampling)
    engine: Engine = field(default_factory=Engine)
    teacher_engine: TeacherEngine = field(default_factory=TeacherEngine)
    method: Method = field(default_factory=Method)
    teacher_consistency: Literal["stop", "warn"] = "stop"  # cached scores: must the SFT traces come from the same teacher?
    minibatches: Annotated[int, "at least 1"] = 1  # optimizer steps per rollout batch
    buffer: Buffer = field(default_factory=Buffer)
    controllers: list[Any] = plug("schedules", many=True)  # each sets one option above while the node trains
    hooks: list[Any] = plug("hooks", many=True)  # after every step, in this order


@dataclass
class EvaluateNode(Node):
    """A measurement of a finished model on splits of its task, by a suite."""

    CHECKS: ClassVar[tuple[str, ...]] = (
        "len(splits) >= 1",
        "unique(splits)",
        "unique(benchmarks)",
    )

    model: str = ref(*MODELS)
    data: str = ref("data")
    teacher: Optional[str] = ref(*MODELS, required=False)  # for reverse KL on fresh samples
    suite: Any = plug("evaluation/suites", "lm_eval")  # what measures; it says which of the options from k on it reads
    splits: list[Literal["train", "test", "ood"]] = field(default_factory=lambda: ["test"])
    limit: Annotated[int, "at least 0"] = 0  # prompts of each split; 0 = all
    max_new_tokens: Annotated[int, "at least 1"] = 32
    batch: Annotated[int, "at least 1"] = 256
    k: Annotated[int, "at least 0"] = 8  # samples per prompt for Avg@k and Pass@k; 0 = greedy alone
    temperature: Annotated[float, "at least 0"] = 1.0
    benchmarks: list[str] = field(default_factory=list)  # lm-eval's built-in tasks
    fewshot: Annotated[Optional[int], "at least 0"] = None
    backend: Literal["hf", "vllm"] = "hf"
    options: dict[str, Any] = field(default_factory=dict)  # further model arguments of lm-eval


@dataclass
class AnalyzeNode(Node):
    """A measurement on finished models: it changes nothing. Which roles it reads beside `model` is said by the analysis."""

    model: str = ref(*MODELS)
    other: Optional[str] = ref(*MODELS, required=False)  # e.g. the weights that `model` started from, or a second student
    peer: Optional[str] = ref(*MODELS, required=False)  # a second model with the start `other`
    teacher: Optional[str] = ref(*MODELS, required=False)
    data: Optional[str] = ref("data", required=False)
    split: Literal["train", "test", "ood"] = "test"
    limit: Annotated[int, "at least 0"] = 200  # prompts; 0 = all
    temperature: Annotated[float, "at least 0"] = 1.0
    max_new_tokens: Annotated[int, "at least 1"] = 32
    batch: Annotated[int, "at least 1"] = 256  # rows decoded at once
    analysis: Any = plug(ANALYSES, "???")


KINDS: dict[str, type] = {
    "data": DataNode,
    "model": ModelNode,
    "pretrain": PretrainNode,
    "rl": RlNode,
    "sft": SftNode,
    "rollout": RolloutNode,
    "score": ScoreNode,
    "opd": OpdNode,
    "evaluate": EvaluateNode,
    "analyze": AnalyzeNode,
}
