"""What a teacher's server says of a text: at each token the log-prob of the one that stands there, beside the k likeliest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def sampled_and_top(
    prompt_logprobs: Sequence[Mapping[Any, Any] | None], text: Sequence[int], k: int
) -> tuple[list[list[int]], list[list[float]]]:
    """(ids, log-probs), each [L][1 + k]: at place i what is said of token i + 1, first of the token itself, then of ranks 1 to k.

    As vLLM gives them: at token i a mapping from token ids to `logprob` and `rank` (from 1), the token itself among them whether it is
    one of the k likeliest or not; None at the first. The last place says nothing, and holds zeros. Raises ValueError where it
    gives fewer than k.
    """
    ids, logps = [], []
    for token, found in zip(text[1:], prompt_logprobs[1:], strict=True):
        said = {int(name): entry for name, entry in found.items()}
        best = sorted((entry.rank, name) for name, entry in said.items() if entry.rank <= k)
        if len(best) < k:
            raise ValueError(f"the teacher's server gave {len(best)} log-probs of a token, {k} were asked for")
        row = [token, *(name for _, name in best[:k])]
        ids.append(row)
        logps.append([said[name].logprob for name in row])
    return [*ids, [0] * (1 + k)], [*logps, [0.0] * (1 + k)]
