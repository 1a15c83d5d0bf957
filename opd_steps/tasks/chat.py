"""Chats as a tokenizer's template writes them: messages to text, the same text on every day."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from opd_steps.errors import UserError

TODAY = datetime.datetime(2024, 7, 26)  # for templates that write a date: the one that Llama 3's own fall back to
CLOCK = re.compile(r"\bstrftime_now\b")
_CHANCE = re.compile(r"\|\s*random\b|\blipsum\b")


def messages(prompt: str, system: str | None = None, before: Sequence[dict[str, str]] = ()) -> list[dict[str, str]]:
    """A user's message behind those `before`, and a system message where there is one; an empty one is one. A chat's own stands."""
    own = any(message["role"] == "system" for message in before[:1])
    front = [] if system is None or own else [{"role": "system", "content": system}]
    return [*front, *before, {"role": "user", "content": prompt}]


def chat_text(
    tokenizer: PreTrainedTokenizerBase, chat: list[dict[str, str]], told: dict | None = None, more: bool = True
) -> str:
    """The chat up to where the assistant begins (`more`), or to the end of the assistant's last words. `told`: what the template may
    read beside the messages.

    A template's clock stands at TODAY. Raises UserError when there is no template, and for whatever it raises.
    """
    return _applied(tokenizer, chat, told, add_generation_prompt=more, continue_final_message=not more)


def rendered(tokenizer: PreTrainedTokenizerBase, chat: list[dict[str, str]], told: dict | None = None) -> str:
    """The same of a chat that is over: nobody is asked to go on."""
    return _applied(tokenizer, chat, told)


def _applied(tokenizer: PreTrainedTokenizerBase, chat: list[dict[str, str]], told: dict | None, **how: bool) -> str:
    if not tokenizer.chat_template:
        raise UserError("chat", "this tokenizer has no chat template; set chat: false, or take another tokenizer")
    try:
        return tokenizer.apply_chat_template(
            chat,
            tokenize=False,
            strftime_now=TODAY.strftime,
            **how,
            **(told or {}),
        )
    except Exception as error:  # a template is a program: it may raise anything
        roles = ", ".join(message["role"] for message in chat)
        raise UserError("chat", f"the chat template fails on messages of {roles}: {type(error).__name__}: {error}") from None


def templates(tokenizer: PreTrainedTokenizerBase) -> str:
    """The source of the tokenizer's templates, or ""."""
    found = tokenizer.chat_template or ""
    return found if isinstance(found, str) else "\n".join(map(str, found.values()))


def check_chat(tokenizer: PreTrainedTokenizerBase, system: str | None, template: dict | None = None) -> None:
    """Raises UserError for a template that fails, draws at random, or does not show or read what it is told."""
    if _CHANCE.search(templates(tokenizer)):
        raise UserError("chat", "the chat template draws at random (random, lipsum): a prompt would never be the same")
    for name in template or {}:
        if not re.search(rf"\b{re.escape(name)}\b", templates(tokenizer)):
            raise UserError(f"template.{name}", "the chat template does not read it")
    shown = lambda prompt, told: chat_text(tokenizer, messages(prompt, told), template)
    one = shown("What is 7 + 5?", system)
    if one == shown("Name a colour.", system):
        raise UserError("chat", "the chat template does not show the user's message (does it expect a list of parts?)")
    if system and one in (shown("What is 7 + 5?", None), shown("What is 7 + 5?", system + " Not this.")):
        raise UserError("system", "the chat template leaves the system message out")
