"""A whole chat as tokens, and which of them the assistant wrote: all of its turns are learned at once."""

from __future__ import annotations

import re
from os.path import commonprefix
from typing import TYPE_CHECKING

from opd_steps.errors import UserError
from opd_steps.models.special import encode_guarded, guard, names_in
from opd_steps.models.tokenizers import encode_markup
from opd_steps.tasks.chat import chat_text, rendered

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from opd_steps.tasks.messages import Message

_HEAD = re.compile(r".*[\n>\]]", re.DOTALL)  # a line break, or the end of a special token's name


def chat_turns(
    tokenizer: PreTrainedTokenizerBase, chat: list[Message], told: dict | None = None
) -> list[tuple[list[int], bool]]:
    """(token ids, did the assistant write them?) in turn. Together they are the template's own text of the chat, up to the last end token.

    An assistant's turn begins where a prompt ends that asks for it, and ends with its end token. It is tokenised apart from what stands
    before it, as prompts and answers always are. Raises UserError for a template that writes earlier messages otherwise once more
    follow, or an answer without an end token.
    """
    free = ""
    if any(names_in(tokenizer, message["content"]) for message in chat):
        texts, free = guard(tokenizer, [message["content"] for message in chat])
        chat = [message | {"content": text} for message, text in zip(chat, texts, strict=True)]
    whole, at, pieces = rendered(tokenizer, chat, told), 0, []
    for k, message in enumerate(chat):
        if message["role"] == "assistant":
            start = _start(tokenizer, chat[:k], whole, told)
            end = whole.find(tokenizer.eos_token, start) + len(tokenizer.eos_token)
            if end < start + len(tokenizer.eos_token):
                raise UserError("chat", f"the chat template ends an answer without the end token {tokenizer.eos_token!r}")
            pieces += [(whole[at:start], False), (whole[start:end], True)]
            at = end
    ids = lambda text: encode_guarded(tokenizer, text, free) if free else encode_markup(tokenizer, text)
    return [(ids(text), own) for text, own in pieces]


def _start(tokenizer: PreTrainedTokenizerBase, before: list[Message], whole: str, told: dict | None) -> int:
    """Where in the whole text the answer to the messages `before` begins."""
    front, asked = rendered(tokenizer, before, told), chat_text(tokenizer, before, told)
    if not (whole.startswith(front) and asked.startswith(front)):
        said = "the chat template writes messages otherwise once more follow, so that turns cannot be told apart"
        raise UserError("chat", f"{said}: loss_on response")
    if whole.startswith(asked):
        return len(asked)
    rest = [asked[len(front) :], whole[len(front) :]]
    shared = commonprefix(rest)  # noqa: RUF071   e.g. without the empty thought that a prompt ends with
    head = _HEAD.match(shared)
    return len(front) + (head.end() if head else 0)
