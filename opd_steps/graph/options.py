"""Options that several kinds share, and the field that names another node."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, Optional

Dtype = Literal["float32", "bfloat16"]
Attention = Literal["sdpa", "eager", "flash_attention_2", "flash_attention_3"]

# CODE of a dataclass here or of a kind: {(option, value): files of the package that run where the option has the value}


def ref(*produces: str, required: bool = True, own: bool = False, many: bool = False) -> Any:
    """A field that names a node whose kind PRODUCES one of these, or a part of it, `node:b`.

    `own`: it may also be `self` or `self:<learner>`, a learner of the node itself. `many`: a list of names.
    """
    metadata = {"ref": produces, "own": own}
    if many:
        return field(default_factory=list, metadata=metadata)
    return field(default="???" if required else None, metadata=metadata)


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
    eight_bit: bool = False  # moments of matrices in eight bits: 2.03 bytes a weight for 8 (docs/tune.md)


@dataclass
class Spikes:
    """Updates whose gradient is far larger than those before it."""

    factor: Annotated[float, "0 or above 1"] = 0.0  # times the median norm of the last updates; 0 = no update is a spike
    window: Annotated[int, "at least 4"] = 64  # updates; the first quarter of a window are all made
    then: Literal["skip", "stop"] = "skip"  # skip: leave the update out; stop: end the step with one line


@dataclass
class Resources:
    """What the node's job asks of the executor."""

    gpu: Annotated[int, "at least 0"] = 0
    gpu_mem_gb: Annotated[int, "at least 1"] = (
        80  # of each GPU: a node that is estimated to need more is refused (docs/plan.md)
    )
    processes: Annotated[int, "at least 0"] = 0  # a training's, each with a share of the rows and weights; 0 = one for each GPU
    nodes: Annotated[int, "at least 1"] = (
        1  # machines of one Slurm job, each with all that is said here: trainer verl (docs/scale.md)
    )
    cpus: Annotated[int, "at least 1"] = 1  # of all processes together
    mem_mb: Annotated[int, "at least 1"] = 4000
    runtime: Annotated[int, "at least 1"] = 60  # minutes


@dataclass
class Engine:
    """Who generates: `local`, this package's batched decode, `vllm` in the step's own process, or a `vllm serve` that the step runs."""

    CODE: ClassVar[dict] = {
        ("name", "vllm"): ("rollout/vllm_engine.py",),
        ("name", "server"): ("rollout/vllm_student.py", "rollout/vllm_serve.py", "rollout/vllm_transfer.py"),
    }

    name: Literal["local", "vllm", "server"] = "local"
    batch: Annotated[int, "at least 1"] = 256  # rows decoded at once
    # of vllm and server alone:
    tensor_parallel: Annotated[int, "at least 1"] = 1  # GPUs of one copy of the model
    gpus: Annotated[int, "at least 0"] = 0  # server: for itself alone; 0 = tensor_parallel where that is above 1, else none
    memory: Annotated[float, "above 0, below 1"] = 0.4  # share of the GPU's memory, beside the trainer's
    kv_cache_mb: Annotated[int, "at least 0"] = 0  # instead of that share; 0 on a CPU: 256
    max_model_len: Annotated[int, "at least 0"] = 0  # tokens of prompt and answer; 0 = the model's own
    eager: bool = False  # no CUDA graphs; always so on a CPU
    sleep: bool = False  # vllm: while nobody asks it, its weights lie on the host and its cache is given back
    dtype: Optional[Dtype] = None  # null: the node's
    tolerance: Annotated[Optional[float], "above 0"] = None  # nats that log-probs may differ; null: .001, in bfloat16 .5
    port: Annotated[int, "0 to 65535"] = 0  # server: 0 = a free one
    start_timeout: Annotated[int, "at least 1"] = 600  # server: seconds


@dataclass
class TeacherEngine(Engine):
    """Who scores for the teacher: the torch model itself, `vllm` in the step's process, or a `vllm serve` that the step runs."""

    CODE: ClassVar[dict] = {
        ("name", "vllm"): ("teachers/engine.py", "rollout/vllm_engine.py"),
        ("name", "server"): ("teachers/engine.py", "rollout/vllm_server.py", "rollout/vllm_serve.py"),
    }

    url: str = ""  # server: one that runs already, instead of one of the step's own


@dataclass
class Trainer:
    """Who trains: `local`, this package's own loop on one machine, or `verl`, on many (docs/scale.md)."""

    CHECKS: ClassVar[tuple[str, ...]] = ("name == 'verl' or set == []", "name == 'verl' or address == ''")
    CODE: ClassVar[dict] = {
        ("name", "verl"): (
            "steps/_verl.py",
            "verl/launch.py",
            "verl/trainer.py",
            "verl/agent.py",
            "verl/beside.py",
            "verl/names.py",
            "verl/optimizer.py",
            "verl/vllm_server.py",
            "verl/replica.py",
        )
    }

    name: Literal["local", "verl"] = "local"
    # of verl alone:
    nodes: Annotated[int, "at least 1"] = 1  # groups of GPUs that train, each on one machine
    gpus_per_node: Annotated[int, "at least 1"] = 8  # of each group
    teacher_nodes: Annotated[int, "at least 1"] = 1  # further groups, for the teacher's vLLM
    address: str = ""  # of a Ray that runs already; "" = one of its own, on this machine
    set: list[str] = field(default_factory=list)  # further keys of verl's configuration, key=value


@dataclass
class Sampling:
    """How answers are drawn."""

    CHECKS: ClassVar[tuple[str, ...]] = ("'' not in stop",)

    n: Annotated[int, "at least 1"] = 1  # samples per prompt
    temperature: Annotated[float, "at least 0"] = 1.0
    max_new_tokens: Annotated[int, "at least 1"] = 32
    top_p: Annotated[float, "above 0, at most 1"] = 1.0  # of those that top_k leaves
    top_k: Annotated[int, "at least 0"] = 0  # likeliest tokens alone; 0 = all
    stop: list[str] = field(
        default_factory=list
    )  # strings: a row ends with the token that completes one in its text, of which what stands before it is judged
