"""Two tokenizers on one text: spans between common boundaries, and a teacher that scores them (SimpleOPD).

A span is the least stretch of text that starts and ends at a token boundary of both. Its log-prob under either model is
the sum over its tokens; equal tokenizers make every token a span.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from opd_steps.config.asks import NOTHING, Asks
from opd_steps.nouns.dist import Recorded
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.tasks.render import completion_text, response_ids

SPACE = "\u2581"  # how SentencePiece writes a space
_BYTE = re.compile("<0x[0-9A-F]{2}>")
CHUNK = 1024  # decision points whose log-probs over the vocabulary exist at once


def align(one: Sequence[int], other: Sequence[int]) -> tuple[list[int], list[int]]:
    """Span number of each token of two tokenisations, given the tokens' sizes in bytes; -1 behind the last common boundary."""
    ends = [list(accumulate(one)), list(accumulate(other))]
    common = sorted(set(ends[0]) & set(ends[1]))
    number = {end: i for i, end in enumerate(common)}

    def spans(each: list[int]) -> list[int]:
        out, after = [], 0
        for end in each:
            while after < len(common) and common[after] < end:
                after += 1
            out.append(number[common[after]] if after < len(common) else -1)
        return out

    return spans(ends[0]), spans(ends[1])


def token_bytes(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[int]:
    """Bytes of text that each token stands for; 0 for special tokens.

    Byte-level tokens write one character a byte; with byte fallback `<0x0A>` is one byte; "\u2581" stands for a space.
    """
    sizes = _sizes(tokenizer)
    return [sizes[i] for i in ids]


@lru_cache(maxsize=8)
def _sizes(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """token_bytes of the whole vocabulary: once a tokenizer, not once a row."""
    decoder = tokenizer.backend_tokenizer.decoder
    how = json.loads(decoder.__getstate__()) if decoder is not None else None
    kinds, text = _kinds(how), json.dumps(how, ensure_ascii=False)
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special} | set(tokenizer.all_special_ids)
    added = tokenizer.added_tokens_decoder
    ids = range(max(tokenizer.get_vocab().values()) + 1)

    def size(i: int, token: str | None) -> int:
        if i in special or token is None:
            return 0
        if i in added:  # it stands in the text as it is written
            return len(token.encode())
        if "ByteLevel" in kinds:
            return len(token)
        if "ByteFallback" in kinds and _BYTE.fullmatch(token):
            return 1
        return len((token.replace(SPACE, " ") if "Metaspace" in kinds or SPACE in text else token).encode())

    return [size(i, token) for i, token in zip(ids, tokenizer.convert_ids_to_tokens(list(ids)), strict=True)]


def _kinds(decoder: dict | None) -> set[str]:
    """Types of a decoder and of those in its sequence."""
    return set() if decoder is None else {decoder["type"]}.union(*(_kinds(part) for part in decoder.get("decoders", ())))


def text_sizes(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], text: str) -> list[int]:
    """token_bytes of tokens that spell `text`, without the space that some decoders drop at the start."""
    sizes = token_bytes(tokenizer, ids)
    first = next((i for i, size in enumerate(sizes) if size), None)
    begins = first is not None and str(tokenizer.convert_ids_to_tokens(ids[first])).startswith(SPACE)
    if begins and sum(sizes) == len(text.encode()) + 1:
        sizes[first] -= 1
    return sizes


class SpanTeacher:
    """`policy` with its own tokenizer, asked about texts that were written in `pool`'s tokens."""

    def __init__(self, policy, pool):
        self.policy, self.pool = policy, pool

    def prepare(self, rows: Trajectory, name: str) -> Trajectory:
        """Each text in the teacher's tokens, and the spans of both: extra columns <name>:actions, <name>:span, <name>:its_span.

        Rows whose text either's tokens do not spell (a cut character, a normaliser) have no span at all: -1.
        """
        mine, its = self.pool.tokenizer, self.policy.tokenizer
        contexts, actions, spans, teacher_spans = [], [], [], []
        for i, prompt in enumerate(rows.prompt_B.tolist()):
            ids = rows.actions[i].tolist()
            ended = bool(rows.closed_B[i])
            text = completion_text(mine, ids, ended)
            said = response_ids(its, text)
            said = said if ended or len(said) == 1 else said[:-1]
            sizes, its_sizes = (text_sizes(t, row[: len(row) - ended], text) for t, row in ((mine, ids), (its, said)))
            mute = [size == 0 for size in token_bytes(mine, ids[: len(ids) - ended])] + [False] * ended
            if ended:  # the end token is a token of the text like any other
                sizes, its_sizes = [*sizes, 1], [*its_sizes, 1]
            own, other = align(sizes, its_sizes)
            if {sum(sizes), sum(its_sizes)} != {len(text.encode()) + ended}:
                own, other = [-1] * len(own), [-1] * len(other)
            row = self.pool.rows[prompt]
            contexts.append(self.pool.task.prompt_ids(its, row["prompt"], row.get("before", ())))
            actions.append(torch.tensor(said))
            spans.append(torch.tensor([-1 if no_text else span for no_text, span in zip(mute, own, strict=True)]))
            teacher_spans.append(torch.tensor(other))
        columns = {"actions": actions, "span": spans, "its_span": teacher_spans}
        named = {f"context:{name}": contexts} | {f"{name}:{key}": column for key, column in columns.items()}
        return rows.with_columns(extra=rows.extra | named)

    @torch.no_grad()
    def dist(self, trajectory: Trajectory, role: str = "teacher", asks: Asks = NOTHING) -> Recorded:
        """Per token of the student, its span's log-prob divided by the span's number of student tokens; 0 without a span."""
        extra = trajectory.extra
        contexts = {f"context:{role}": extra[f"context:{role}"]}
        asked = Trajectory(contexts[f"context:{role}"], extra[f"{role}:actions"], trajectory.prompt_B, extra=contexts)
        dist, action_N = self.policy.dist(asked, role), asked.action_N.to(self.policy.device)
        bounds = range(0, len(dist), CHUNK)
        logp_N = torch.cat([dist.chunk(i, i + CHUNK).logp(action_N[i : i + CHUNK]) for i in bounds])
        out = []
        parts = logp_N.split(asked.length_B.tolist())
        for logp_T, span_T, its_T in zip(parts, extra[f"{role}:span"], extra[f"{role}:its_span"], strict=True):
            out.append(_spread(logp_T, its_T.to(logp_T.device), span_T.to(logp_T.device)))
        return Recorded(torch.cat(out))


def _spread(logp: Tensor, its: Tensor, own: Tensor) -> Tensor:
    """Sums of `logp` by the spans `its`, each in equal parts on the tokens of `own` in that span."""
    count = int(max(its.max(), own.max())) + 2  # the last place is for what has no span
    sums = logp.new_zeros(count).index_add(0, its % count, logp)
    share = sums / own.new_zeros(count).index_add(0, own % count, torch.ones_like(own)).clamp(min=1)
    return share[own % count].masked_fill(own < 0, 0.0)
