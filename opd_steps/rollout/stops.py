"""Stop strings: a row ends at the first token after which its text holds one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from opd_steps.errors import UserError

SLACK = 8  # tokens that a window has beside those of a stop string: its first may be a part of a character


@dataclass(frozen=True)
class Stops:
    """`strings` in texts of one tokenizer: of a row's new tokens alone, special tokens left out.

    `end` is what decides, whoever samples: a row's end depends on the row alone. Samplers look for it by themselves, so as to end early.
    Raises UserError for a string that no such text can hold.
    """

    tokenizer: PreTrainedTokenizerBase
    strings: tuple[str, ...]

    def __post_init__(self):
        special = [token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special]
        for string in self.strings:
            if named := next((name for name in special if name in string), ""):
                what = f"{string!r} is never in a text: {named!r} is a special token, and a checkpoint's end tokens end a row anyway"
                raise UserError("stop", what)

    def text(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def end(self, ids: Sequence[int]) -> int:
        """How many of a row's tokens there are up to the first after which its text holds a stop string; 0: there is none."""
        count = len(ids)
        if found(self.text(ids), self.strings) is None:
            return 0
        while count > 1 and found(self.text(ids[: count - 1]), self.strings) is not None:  # a sampler hardly runs on
            count -= 1
        return count

    def early(self, tokens: Sequence[Tensor], ended: Sequence[bool], ends: Sequence[int]) -> list[int]:
        """Numbers of the rows that a sampler ended, though they have neither an end token of `ends` nor a stop string."""
        rows = enumerate(zip(tokens, ended, strict=True))
        return [i for i, (row, end) in rows if end and int(row[-1]) not in ends and not self.end(row.tolist())]

    def cut(
        self, tokens: Sequence[Tensor], logp: Sequence[Tensor], ended: Sequence[bool]
    ) -> tuple[list[Tensor], list[Tensor], list[bool], list[str]]:
        """A sampler's rows, each up to its end; of each its text from the stop string on, "" where none ended it."""
        rows = []
        for ids_T, logp_T, by_itself in zip(tokens, logp, ended, strict=True):
            if count := self.end(ids := ids_T.tolist()):
                text = self.text(ids[:count])
                rows.append((ids_T[:count], logp_T[:count], True, text[found(text, self.strings) :]))
            else:
                rows.append((ids_T, logp_T, by_itself, ""))
        return tuple(list(column) for column in zip(*rows, strict=True))


def found(text: str, strings: Sequence[str]) -> int | None:
    """Where the stop string begins that is the first to be whole; of several that are at once, the first of `strings`."""
    places = [(at + len(string), n, at) for n, string in enumerate(strings) if (at := text.find(string)) >= 0]
    return min(places)[2] if places else None


def before(text: str, strings: Sequence[str]) -> str:
    """A text up to its stop string."""
    return text[: found(text, strings)]


def for_vllm(strings: Sequence[str]) -> dict:
    """What a request for samples says of them: the token that completes one stays, as it does here."""
    return {"stop": list(strings), "include_stop_str_in_output": True} if strings else {}


class Growing:
    """The rows of a batch while they are decoded: after each token only the last few are read, and all where these hold a stop string.

    `ends`: row -> how many tokens it has, of those that a stop string has ended.
    """

    def __init__(self, stops: Stops, rows: int):
        self.stops, self.count, self.ends = stops, 0, {}
        self.window = max(len(string.encode()) for string in stops.strings) + SLACK  # a token of a text is a byte at least
        self.mute = {i for i, token in stops.tokenizer.added_tokens_decoder.items() if token.special}
        self.said: list[list[int]] = [[] for _ in range(rows)]

    def add(self, row_A: Tensor, token_A: Tensor, ended_A: Tensor) -> Tensor:
        """The next token of each of these rows: which of them have ended now, those of `ended_A` among them."""
        self.count += 1
        now = zip(row_A.tolist(), token_A.tolist(), ended_A.tolist(), strict=True)
        return torch.tensor([ended or self._ends(row, token) for row, token, ended in now], device=ended_A.device)

    def _ends(self, row: int, token: int) -> bool:
        if token in self.mute:  # the text is what it was
            return False
        (said := self.said[row]).append(token)
        holds = lambda ids: found(self.stops.text(ids), self.stops.strings) is not None
        if not holds(said[-self.window :]) or not holds(said):
            return False
        self.ends[row] = self.count
        return True
