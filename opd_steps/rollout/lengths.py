"""Whether prompts with their answers fit: into the places that a model knows, and into an engine's `max_model_len`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from transformers import AutoConfig, PretrainedConfig

from opd_steps.errors import UserError

PLACES = ("n_positions", "max_position_embeddings", "n_ctx")  # as transformers' configs call them
UNSCALED = ("default", "su", "longrope", "llama3", "yarn")  # rotary embeddings whose config counts all places


def places(config: PretrainedConfig) -> int | None:
    """Tokens of the longest row that a model takes; None where its config does not say it."""
    config = config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [part.get("rope_type", "default") for part in ([rope] if "rope_type" in rope else rope.values()) if part]
    if any(kind not in UNSCALED for kind in kinds):
        return None
    found = [getattr(config, name) for name in PLACES if getattr(config, name, None)]
    return int(found[0]) if found else None


def require_room(where: str, path: str, asked: int, prompt: int, answer: int = 0) -> None:
    """Raises UserError unless a prompt and an answer of so many tokens fit the model at `path`.

    asked    an engine's max_model_len, which `where` names; 0 = the model's own
    """
    own, needed = places(_config(path)), prompt + answer
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
    limit = asked or places(_config(path))
    return limit + 1 if limit else None


def longest(rows: Iterable[Sequence[int]]) -> int:
    return max(map(len, rows), default=0)


def _config(path: str) -> PretrainedConfig:
    return AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
