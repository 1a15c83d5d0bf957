"""Special tokens and texts: a special token's name inside data is text like any other; what a chat template writes is the token.

A tokenizer turns the name (`<eos>`) into the token wherever it stands. So texts that hold one are encoded by a copy of the
tokenizer whose special tokens have other names; in a rendered chat the template's are given these. (Split special tokens, as
transformers offers, are not enough: a Unigram model knows their names as pieces.)
"""

from __future__ import annotations

import json
import re
from functools import lru_cache

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from opd_steps.errors import UserError

_FREE = [chr(c) for c in range(0xFDD0, 0xFDEE)]  # Unicode's noncharacters: no text should hold them
_MARK = "\ufdee\ufdef"  # in front of a special token's name, in the copy


@lru_cache(maxsize=8)
def _names(tokenizer: PreTrainedTokenizerBase) -> re.Pattern | None:
    """Matches the name of any special token, the longest first. Names of one character are letters of the alphabet, and left out."""
    names = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    longest = sorted((name for name in names if len(name) > 1), key=lambda name: (-len(name), name))
    return re.compile("|".join(map(re.escape, longest))) if longest else None


def names_in(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    """The names of special tokens that a text holds."""
    pattern = _names(tokenizer)
    return pattern.findall(text) if pattern else []


def guard(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> tuple[list[str], str]:
    """(texts whose names of special tokens are broken by a character that no text holds, that character)."""
    free = next((c for c in _FREE if not any(c in text for text in texts)), None)
    if free is None or any(_MARK in text for text in texts):
        raise UserError("text", "it holds Unicode's noncharacters U+FDD0 to U+FDEF, and names of special tokens")
    return [_names(tokenizer).sub(lambda name: free.join(name[0]), text) for text in texts], free


def encode_guarded(tokenizer: PreTrainedTokenizerBase, text: str, free: str) -> list[int]:
    """Token ids of a rendered chat: names that stand there whole are tokens, those broken by `free` are text."""
    return encode_as_text(tokenizer, _names(tokenizer).sub(lambda name: _MARK + name[0], text).replace(free, ""))


def encode_as_text(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a text in which names of special tokens are text."""
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise UserError("tokenizer", f"names of special tokens in a text need a fast tokenizer (text: {text[:60]!r})")
    return _renamed(tokenizer).encode(text, add_special_tokens=False).ids


@lru_cache(maxsize=4)
def _renamed(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """The tokenizer with `_MARK` in front of every special token's name, ids as they are."""
    core = json.loads(tokenizer.backend_tokenizer.to_str())
    special = {t["content"] for t in core["added_tokens"] if t["special"] and len(t["content"]) > 1}
    new = lambda name: _MARK + name if name in special else name
    for token in core["added_tokens"]:
        token["content"] = new(token["content"])
    model = core["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {new(name): i for name, i in model["vocab"].items()}
    else:  # Unigram: [name, score]
        model["vocab"] = [[new(name), score] for name, score in model["vocab"]]
    if isinstance(model.get("unk_token"), str):
        model["unk_token"] = new(model["unk_token"])
    core["post_processor"] = core["truncation"] = core["padding"] = None
    return Tokenizer.from_str(json.dumps(core))


@lru_cache(maxsize=8)
def leading_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """What the tokenizer's own rule (add_bos_token, post-processor) puts in front of a text: a BOS, or nothing."""
    if not tokenizer.num_special_tokens_to_add():
        return ()
    for probe in ("a", "0", *tokenizer.get_vocab()):
        try:
            bare, whole = (tokenizer(probe, add_special_tokens=added)["input_ids"] for added in (False, True))
        except Exception:  # tokenizers raises bare Exception for what its alphabet lacks
            continue
        for at in range(len(whole) if bare else 0):
            if whole[at : at + len(bare)] == bare:
                return tuple(whole[:at])
    return ()
