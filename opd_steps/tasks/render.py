"""Text to tokens and back, for every reader of a data node alike: training, rollouts, scoring, lm-eval, whatever the engine.

Prompt and response are tokenised apart, so that a prompt's tokens never depend on the response. Names of special tokens inside
prompts, system messages and responses are text (models/special.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from opd_steps.errors import UserError
from opd_steps.models.special import encode_guarded, guard, leading_ids, names_in
from opd_steps.models.tokenizers import encode, encode_markup
from opd_steps.tasks.chat import chat_text, messages
from opd_steps.tasks.thoughts import TAGS, opened

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TAIL = 16  # tokens, more than a thought's tag and the white space behind it take


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    chat: bool = False,
    system: str | None = None,
    bos: str = "auto",
    template: dict | None = None,
    before: Sequence[dict[str, str]] = (),
) -> list[int]:
    """Tokens of a prompt; with `chat`, of the chat template's text up to where the assistant begins. `template`: what it is told
    beside the messages; `before`: those that stand before the prompt.

    bos   auto: what the tokenizer's own rule puts in front of a text, in a chat what the template writes; always: a BOS in
          front of both, once; never: none, in a chat neither the template's

    Raises UserError on a character that the tokenizer lacks, when it has no chat template or the template fails, for a BOS that
    it does not have, and for a prompt of no tokens.
    """
    ids = _chat_ids(tokenizer, messages(prompt, system, before), template) if chat else encode(tokenizer, prompt)
    ids = with_bos(tokenizer, ids, chat, bos)
    if not ids:
        raise UserError("prompt", f"no tokens at all in {prompt[:60]!r}: nothing that a response could stand behind")
    return ids


def _chat_ids(tokenizer: PreTrainedTokenizerBase, chat: list[dict[str, str]], template: dict | None) -> list[int]:
    texts = [message["content"] for message in chat]
    if not any(names_in(tokenizer, text) for text in texts):
        return encode_markup(tokenizer, chat_text(tokenizer, chat, template))
    texts, free = guard(tokenizer, texts)
    guarded = [message | {"content": text} for message, text in zip(chat, texts, strict=True)]
    return encode_guarded(tokenizer, chat_text(tokenizer, guarded, template), free)


def with_bos(tokenizer: PreTrainedTokenizerBase, ids: list[int], chat: bool, bos: str) -> list[int]:
    """Ids with a BOS in front or without, as the rule `bos` of `prompt_ids` has it."""
    if bos == "auto":
        return ids if chat else [*leading_ids(tokenizer), *ids]
    if bos == "never":
        return ids[1:] if chat and ids and ids[0] == tokenizer.bos_token_id else ids
    front = list(leading_ids(tokenizer)) or [tokenizer.bos_token_id]
    if front == [None]:
        raise UserError("bos", "always, but this tokenizer has no BOS token")
    return ids if ids[: len(front)] == front else [*front, *ids]


def response_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Tokens of a response and the end token."""
    return [*encode(tokenizer, text), tokenizer.eos_token_id]


def completion_text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], ended: bool = False) -> str:
    """Text of response tokens without special tokens, but for the tags of thoughts, by which they are judged; of a row that ended by
    itself without its end token, special or not.
    """
    ids = list(ids[:-1] if ended else ids)
    if tags := _special_tags(tokenizer):
        hidden = set(tokenizer.all_special_ids) - tags
        return tokenizer.decode([i for i in ids if i not in hidden], clean_up_tokenization_spaces=False)
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def judged_text(tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int], completion: str) -> str:
    """A completion as verifiers judge it: behind the tag of a thought that its prompt has begun, so that one that never ends is seen."""
    return opened(tokenizer.decode(list(prompt[-_TAIL:]), clean_up_tokenization_spaces=False)) + completion


@lru_cache(maxsize=8)
def _special_tags(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Ids of thoughts' tags that are special tokens: decoding would hide them."""
    special = tokenizer.added_tokens_decoder.items()
    return frozenset(i for i, token in special if token.special and token.content.lower() in TAGS)
