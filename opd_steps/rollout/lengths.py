"""Whether prompts with their answers fit: into the places that a model knows, and into an engine's `max_model_len`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from transformers import AutoConfig, PretrainedConfig

from opd_steps.errors import UserError
from opd_steps.rollout.positions import positions


def require_room(where: str, path: str, asked: int, prompt: int, answer: int = 0) -> None:
    """Raises UserError unless a prompt and an answer of so many tokens fit the model at `path`.

    asked    an engine's max_model_len, which `where` names; 0 = the model's own
    """
    own, needed = positions(_config(path)), prompt + answer
    what = (
        f"the longest row may have {prompt} tokens of prompt and {answer} of answer"
        if answer
        else f"the longest row has {prompt} tokens"
    )
    if asked and own and asked > own:
        raise UserError(where, f"{asked}, but the model {path} has {own} places: at most so many, or 0")
    if asked and needed > asked:
        raise UserError(where, f"{what}: expected at least {needed}, or 0 for the model's own; found {asked}")
    if own and needed > own:
        raise UserError(where, f"{what}, {needed} in all; the model {path} has {own} places: shorter ones, or another model")


def engine_length(path: str, asked: int) -> int | None:
    """The max_model_len that vLLM is given for rows of up to `asked` tokens (0 = the model's own): one more, as scoring a row asks
    for a token behind it, which no forward pass sees. None where the model's config does not say its own: then vLLM decides.
    """
    limit = asked or positions(_config(path))
    return limit + 1 if limit else None


def longest(rows: Iterable[Sequence[int]]) -> int:
    return max(map(len, rows), default=0)


def _config(path: str) -> PretrainedConfig:
    return AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
