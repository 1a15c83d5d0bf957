"""vLLM in this process: it generates, scores, and takes the trainer's weights."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig

from opd_steps.errors import UserError
from opd_steps.nouns.adapted import merged
from opd_steps.rollout.lengths import engine_length, longest
from opd_steps.rollout.stops import for_vllm
from opd_steps.rollout.vllm_cache import Seen
from opd_steps.rollout.vllm_said import TOLERANCE, fixed_row, gap, of_flat, require_agreement

SETTINGS = {
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # else the trainer's threads are bound with it
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1",  # rollout.lengths checks against the model, and asks for one more
}
_IN_PROCESS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine lives here and ends here: no process is left behind
    "VLLM_LOGGING_LEVEL": "ERROR",  # warnings are a page at its start and one more with every update, none of them about this use
}


class VllmEngine:
    """One model in vLLM. Rows are token ids, and nothing is tokenised here; texts are made of them where stop strings are looked for.

    options    graph.options.Engine
    ends       end tokens, each of which ends a row
    learns     whether weights will be sent (`sync`)
    stops      how many stop strings may be asked for; 0: no text is made of tokens
    It is awake while it is asked and while it takes weights, always or with `sleep`: then the card is the trainer's alone in between.
    `version`: optimizer steps behind the weights; None while an update is incomplete, and then nothing is answered.
    `limit`: tokens of the longest row that it takes, prompt and answer.
    """

    def __init__(
        self,
        path: str,
        options: dict,
        dtype: str,
        ends: Sequence[int],
        learns: bool = False,
        scores: int = 0,
        stops: int = 0,
    ):
        self.ends, self.version = list(ends), 0
        self.tolerance = TOLERANCE[dtype] if options["tolerance"] is None else options["tolerance"]
        self._vllm = vllm = import_vllm("engine.name", "local")
        require_fitting_heads(path)
        arguments = on_this_chip(options["kv_cache_mb"], options["eager"]) | {
            "dtype": dtype,
            "tensor_parallel_size": options["tensor_parallel"],
            "gpu_memory_utilization": options["memory"],
            "max_num_seqs": options["batch"],
            "max_model_len": engine_length(path, options["max_model_len"]),
            "max_logprobs": scores,
            "logprobs_mode": "processed_logprobs",  # of the distribution that is sampled from: temperature and top-p applied
            "skip_tokenizer_init": not stops,
            "disable_log_stats": False,  # else nobody counts what its cache holds
            "seed": 0,
        }
        self.sleeps, self.asleep, self.asked = options["sleep"], False, 0
        if self.sleeps:
            arguments["enable_sleep_mode"] = True
        if learns:
            from opd_steps.rollout.vllm_transfer import register

            arguments["weight_transfer_config"] = {"backend": register()}
        with own_randomness():
            try:
                self.llm = vllm.LLM(path, **arguments)
            except Exception as error:
                raise UserError("engine", f"vLLM does not start on {path}: {type(error).__name__}: {error}") from error
            if learns:
                self.llm.init_weight_transfer_engine({"init_info": {}})
        self.seen = Seen()
        self.llm.llm_engine.logger_manager.stat_loggers = [self.seen]
        self.limit = self.llm.llm_engine.vllm_config.model_config.max_model_len - 1
        with self._woken():
            pass

    def generate(
        self,
        contexts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        *,
        max_new_tokens: int,
        temperature: float,
        top_p: float,
        top_k: int = 0,
        stop: Sequence[str] = (),
    ) -> tuple[list[Tensor], list[Tensor], list[bool]]:
        """As rollout.local.decode: new ids [T] (end token included), their log-probs [T] under the sampling, ended by itself?

        One seed a request: a row depends on its context and its seed alone. Raises UserError for a row that would be cut.
        """
        if (needed := longest(contexts) + max_new_tokens) > self.limit:
            raise UserError(
                "engine.max_model_len", f"a prompt and its answer may have {needed} tokens, the engine takes {self.limit}"
            )
        asked = [
            self._vllm.SamplingParams(
                temperature=temperature,
                top_p=top_p,
                top_k=top_k,
                seed=seed % 2**63,
                max_tokens=max_new_tokens,
                ignore_eos=True,
                stop_token_ids=self.ends,
                logprobs=0,
                flat_logprobs=True,
                detokenize=bool(stop),
                **for_vllm(stop),
            )
            for seed in seeds
        ]
        tokens, logp, ended = [], [], []
        for found in self._ask(contexts, asked, sampling=True):
            row = found.outputs[0]
            first = torch.tensor(row.logprobs.start_indices)
            tokens.append(torch.tensor(list(row.token_ids)))
            logp.append(torch.tensor(row.logprobs.logprobs)[first])
            ended.append(row.finish_reason == "stop")
        return tokens, logp, ended

    def score(self, rows: Sequence[Sequence[int]], starts: Sequence[int], k: int) -> tuple[list[Tensor], ...]:
        """Log-probs at temperature 1 of each row's tokens from starts[b] on: (logp [T], ids [T, k], their log-probs [T, k]).

        k: also the model's k likeliest tokens, most likely first; 0 for none, -1 for the whole vocabulary.
        """
        asked = self._vllm.SamplingParams(
            max_tokens=1, temperature=0.0, prompt_logprobs=k, flat_logprobs=True, detokenize=False
        )
        out = [of_flat(found.prompt_logprobs, start) for found, start in zip(self._ask(rows, asked), starts, strict=True)]
        return tuple(list(column) for column in zip(*out, strict=True))

    def sync(self, model: torch.nn.Module, version: int) -> None:
        """Take the weights of `model`, forget what the old ones computed, and compare both on one fixed sequence.

        Every name is sent, tied ones twice: vLLM keeps a packed copy of the head, which a tied checkpoint leaves out.
        Raises UserError when the update fails or engine and trainer disagree by more than `tolerance` nats on any token.
        """
        self.version = None
        with self._woken(stays=True):  # samples follow
            try:
                with own_randomness():
                    self.llm.start_weight_update()
                    self.llm.update_weights({"update_info": {"tensors": self.weights(model)}})
                    self.llm.finish_weight_update(weight_version=str(version))
                    self.llm.reset_prefix_cache()
            except Exception as error:
                said = f"vLLM did not take the weights of step {version}: {type(error).__name__} {error}"
                raise UserError("engine.name", said) from error
            self.version = version
            try:
                require_agreement(self.gap(model), self.tolerance, version)
            except UserError:
                self.version = None
                raise

    def weights(self, model: torch.nn.Module) -> dict[str, Tensor]:
        """By their names in a checkpoint, an adapter merged into them."""
        with merged(model):
            return model.state_dict()

    def gap(self, model: torch.nn.Module) -> float:
        """Largest difference of log-probs, in nats, between `model` and the engine on a fixed sequence and the token behind it.

        Scoring computes the sequence anew, generating reads its prefix from the cache: it is long enough to stand there.
        """
        ids = fixed_row(min(self.llm.llm_engine.vllm_config.cache_config.block_size + 8, self.limit - 1), model)
        token, logp, _ = self.generate([ids], [0], max_new_tokens=1, temperature=0.0, top_p=1.0)
        return gap(model, [*ids, *token[0].tolist()], [*self.score([ids], [1], 0)[0][0].tolist(), *logp[0].tolist()])

    def _ask(self, rows: Sequence[Sequence[int]], asked, sampling: bool = False) -> list:
        if self.version is None:
            raise RuntimeError("vLLM holds the weights of an update that was not completed: nothing it says can be trusted")
        self.seen.sampling = sampling
        with self._woken(), own_randomness():
            return self.llm.generate([self._vllm.TokensPrompt(prompt_token_ids=list(r)) for r in rows], asked, use_tqdm=False)

    @contextmanager
    def _woken(self, stays: bool = False) -> Iterator[None]:
        """Awake within. Behind the outermost of such it sleeps, if it does at all, unless it `stays` awake for what follows."""
        if self.asleep:
            self.llm.wake_up()
            self.asleep = False
        self.asked += 1
        yield
        self.asked -= 1
        if self.sleeps and not self.asked and not stays:
            self.llm.sleep(level=1)  # weights to the host: they may be asked for again before there are new ones
            self.asleep = True

    def close(self) -> None:
        self.llm.llm_engine.engine_core.shutdown()


def import_vllm(key: str, instead: str):
    """The package, set up to live in this process. Raises UserError where it is not installed."""
    os.environ.update(SETTINGS | _IN_PROCESS | os.environ)
    try:
        import vllm
    except ImportError:
        raise UserError(key, f"vllm is not installed; see the README for its environment, or use {instead}") from None
    return vllm


def on_this_chip(kv_cache_mb: int = 0, eager: bool = False) -> dict:
    """`on_chip` of the platform that vLLM finds."""
    from vllm.platforms import current_platform

    return on_chip(current_platform.is_cpu(), kv_cache_mb, eager)


def on_chip(cpu: bool, kv_cache_mb: int, eager: bool) -> dict:
    """Arguments of vLLM that differ between GPU and CPU: on a CPU the cache has a size of its own, and there are no graphs."""
    room = {"kv_cache_memory_bytes": (kv_cache_mb or 256) * 2**20} if cpu or kv_cache_mb else {}
    return room | {"enforce_eager": cpu or eager}


def require_fitting_heads(path: str) -> None:
    """Raises UserError for a model whose attention heads have a size that vLLM's CPU kernels lack: they would fail at the first token."""
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    config = AutoConfig.from_pretrained(path)
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if size not in (fitting := CPUAttentionBackend.get_supported_head_sizes()):
        raise UserError(
            "engine.name", f"on a CPU vLLM takes heads of {', '.join(map(str, fitting))}, {path} has {size}: use local"
        )


@contextmanager
def own_randomness() -> Iterator[None]:
    """vLLM seeds and draws from the global generators; the trainer's stay as they are."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
