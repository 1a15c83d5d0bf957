"""Text to tokens and back. Prompt and response are tokenised apart, so that a prompt's tokens never depend on the response."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from opd_steps.errors import UserError
from opd_steps.models.tokenizers import encode

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def prompt_ids(tokenizer: PreTrainedTokenizerBase, prompt: str, chat: bool = False, system: str | None = None) -> list[int]:
    """Tokens of a prompt; with `chat`, of the chat template's text up to where the assistant begins.

    Raises UserError on a character that the tokenizer lacks, and when it has no chat template.
    """
    if not chat:
        return encode(tokenizer, prompt)
    if not tokenizer.chat_template:
        raise UserError("chat", "this tokenizer has no chat template; set chat: false, or take another tokenizer")
    messages = [{"role": "user", "content": prompt}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    return encode(tokenizer, tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def response_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Tokens of a response and the end token."""
    return [*encode(tokenizer, text), tokenizer.eos_token_id]


def completion_text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """Text of response tokens without special tokens."""
    return tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
