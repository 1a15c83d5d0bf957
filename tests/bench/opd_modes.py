"""One optimizer step of on-policy distillation, as each contestant of opd_step.py does it: the same prompts, samples of one length, the
student's exact reverse KL to the teacher over the whole vocabulary, AdamW, no download. `run(mode, work, steps)` runs one in this process.

ours    LMPolicy, Objective and optimizer as a training step wires them
bare    a plain loop over transformers' models: key-value cache, head on the completions alone
trl     TRL's DistillationTrainer, generation and loss as it ships them, without its gradient checkpointing (pip install trl==1.16.0)
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, dataclass
from functools import partial

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from opd_steps.config.merge import merge
from opd_steps.graph.method import Term
from opd_steps.graph.options import Optim
from opd_steps.loop.objective import Objective
from opd_steps.loop.optim import apply_gradient, clip_gradient, make_optimizer
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.models.numerics import FP32, Numerics, dtype_of, recompute_blocks
from opd_steps.process.heap import keep_freed_memory
from opd_steps.seeds import derive, rng

LR = 1e-4


@dataclass(frozen=True)
class Work:
    """What one step has to do: `batch` prompts of `prompt` tokens, `completion` sampled tokens each; sizes are (hidden, layers)."""

    vocab: int = 512
    batch: int = 8
    micro_batch: int = 8
    prompt: int = 16
    completion: int = 64
    student: tuple[int, int] = (64, 2)
    teacher: tuple[int, int] = (128, 4)
    dtype: str = "float32"  # bfloat16: weights, too; mixed: bf16 products of the student's fp32 weights, a bf16 teacher
    recompute: bool = False  # ours alone: the student's blocks
    device: str = "cpu"
    shape: str = ""  # of real models instead of `student` and `teacher`: "135m-135m", "0.6b-1.7b", "0.6b-4b"


REAL = {  # hidden, intermediate, layers, heads, key-value heads, head size: SmolLM2's, then Qwen3's
    "135m": (576, 1536, 30, 9, 3, 64),
    "0.6b": (1024, 3072, 28, 16, 8, 128),
    "1.7b": (2048, 6144, 28, 16, 8, 128),
    "4b": (2560, 9728, 36, 32, 8, 128),
}


def model(work: Work, whom: str) -> Qwen3ForCausalLM:
    torch.manual_seed(("student", "teacher").index(whom))
    if work.shape:
        hidden, inner, layers, heads, kv, head = REAL[work.shape.split("-")[whom == "teacher"]]
    else:
        hidden, layers = getattr(work, whom)
        inner, heads, kv, head = 3 * hidden, max(2, hidden // 32), max(1, hidden // 64), 32
    config = Qwen3Config(
        vocab_size=work.vocab,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv,
        head_dim=head,
        max_position_embeddings=max(1024, work.prompt + work.completion),
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    with torch.device(work.device):
        mixed = ("float32", "bfloat16")[whom == "teacher"]
        return Qwen3ForCausalLM(config).to(dtype_of(mixed if work.dtype == "mixed" else work.dtype))


def prompts(work: Work, step: int) -> list[list[int]]:
    return rng("prompts", step).integers(6, work.vocab, (work.batch, work.prompt)).tolist()


class Stopwatch:
    """CPU seconds of this process (on a GPU: wall seconds, synchronised) by part, one entry a step."""

    def __init__(self, device: str):
        self.cuda, self.parts, self.begun = device == "cuda", {}, 0.0

    def now(self) -> float:
        if not self.cuda:
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    def start(self) -> None:
        self.begun = self.now()

    def lap(self, part: str) -> None:
        now = self.now()
        self.parts.setdefault(part, []).append(now - self.begun)
        self.begun = now


class Tokens:
    """As much of a tokenizer as a policy asks for; no sample ends by itself."""

    eos_token_id, pad_token_id = -1, 0

    def __init__(self, vocab: int):
        self.vocab = vocab

    def __len__(self) -> int:
        return self.vocab


def ours(work: Work, steps: int, watch: Stopwatch) -> list[float]:
    keep_freed_memory()  # as every step does
    options = asdict(Optim()) | {"lr": LR, "schedule": "constant", "warmup": 0.0}
    method = merge(Term, {"support": "full", "signal": "rkl", "estimator": "exact"}, "bench")
    objective = Objective.from_method(method | {"aggregate": "token_mean"}, work.completion)
    sampling = {"max_new_tokens": work.completion}
    short = Numerics("bfloat16", "bfloat16") if work.dtype != "float32" else FP32
    numerics = Numerics(compute="bfloat16") if work.dtype == "mixed" else short
    own, tokens = model(work, "student"), Tokens(work.vocab)
    if work.recompute:
        recompute_blocks(own)
    student = LMPolicy(own, tokens, numerics=numerics, **sampling)
    teacher = LMPolicy(model(work, "teacher").requires_grad_(False).eval(), tokens, numerics=short, **sampling)
    optimizer = make_optimizer(student.model, options)
    losses = []
    for step in range(steps):
        watch.start()
        rows = student.rollout(prompts(work, step), range(work.batch), [derive(step, i) for i in range(work.batch)])
        watch.lap("rollout")
        found = objective.backward(student, rows, {}, {"teacher": teacher}, work.micro_batch)
        watch.lap("teacher and gradient")
        clip_gradient(optimizer, options)
        apply_gradient(optimizer, step + 1, steps, options)
        optimizer.zero_grad(set_to_none=True)
        watch.lap("optimizer")
        losses.append(found["loss"])
    return losses


def bare(work: Work, steps: int, watch: Stopwatch) -> list[float]:
    student, teacher = model(work, "student"), model(work, "teacher").eval()
    optimizer = torch.optim.AdamW(student.parameters(), lr=LR)
    losses, keep = [], work.completion + 1
    computing = partial(torch.autocast, work.device, torch.bfloat16, enabled=work.dtype == "mixed")
    for step in range(steps):
        ids = torch.tensor(prompts(work, step), device=work.device)
        watch.start()
        with torch.inference_mode(), computing():
            out = student(ids, use_cache=True, logits_to_keep=1)
            sequence = [ids]
            for i in range(work.completion):
                sequence.append(torch.multinomial(out.logits[:, -1].float().softmax(-1), 1))
                if i + 1 < work.completion:
                    out = student(sequence[-1], past_key_values=out.past_key_values, use_cache=True)
        full = torch.cat(sequence, 1).clone()
        watch.lap("rollout")
        total = 0.0
        for part in full.split(work.micro_batch):
            with torch.inference_mode():
                logp = teacher(part, logits_to_keep=keep, use_cache=False).logits[:, :-1].float().log_softmax(-1)
            with computing():
                logits = student(part, logits_to_keep=keep, use_cache=False).logits[:, :-1]
            logq = logits.float().log_softmax(-1)
            loss = (logq.exp() * (logq - logp.clone())).sum(-1).mean() * len(part) / len(full)
            loss.backward()
            total += loss.item()
        watch.lap("teacher and gradient")
        optimizer.step()
        optimizer.zero_grad()
        watch.lap("optimizer")
        losses.append(total)
    return losses


def trl(work: Work, steps: int, watch: Stopwatch) -> list[float]:
    from datasets import Dataset
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, TrainerCallback
    from trl import DistillationConfig, DistillationTrainer

    words = ["<pad>", "<eos>", "<unk>", *(f"w{i}" for i in range(3, work.vocab))]  # a word is a token
    tokens = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokens.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokens, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
    tokenizer.padding_side = "left"
    texts = [" ".join(f"w{i}" for i in row) for step in range(steps) for row in prompts(work, step)]
    options = DistillationConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=work.micro_batch,
        gradient_accumulation_steps=work.batch // work.micro_batch,
        max_steps=steps,
        max_completion_length=work.completion,
        beta=1.0,  # reverse KL
        temperature=1.0,
        generation_kwargs={"min_new_tokens": work.completion},
        bf16=work.dtype != "float32",
        use_cpu=work.device == "cpu",
        report_to=[],
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
        learning_rate=LR,
        lr_scheduler_type="constant",
        gradient_checkpointing=False,
    )
    both = {"model": model(work, "student"), "teacher_model": model(work, "teacher")}
    trainer = DistillationTrainer(
        **both, args=options, train_dataset=Dataset.from_dict({"prompt": texts}), processing_class=tokenizer
    )
    generate = trainer._generate

    def timed(*args, **kwargs):
        watch.start()
        out = generate(*args, **kwargs)
        watch.lap("rollout")
        return out

    class Laps(TrainerCallback):
        def on_pre_optimizer_step(self, *args, **kwargs):
            watch.lap("teacher and gradient")

        def on_step_end(self, *args, **kwargs):
            watch.lap("optimizer")

    trainer._generate = timed
    trainer.add_callback(Laps())
    trainer.train()
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


MODES = {"ours": ours, "bare": bare, "trl": trl}
