"""Chats of several messages as data hold them: what was said before, what is asked last, and what was answered."""

from __future__ import annotations

from typing import Any

from opd_steps.errors import UserError

Message = dict[str, str]


def read_chat(value: Any, where: str, column: str) -> tuple[list[Message], str, str]:
    """(messages before, the last one of a user, the assistant's words behind it or "") of a list of {role, content}.

    Raises UserError for what is no such list, and for one that does not end with a user's message, or an assistant's behind it.
    """
    if not isinstance(value, list):
        raise UserError(where, f"column '{column}' is {type(value).__name__}, not a list of messages {{role, content}}")
    chat = [_message(item, where, f"{column}[{i}]") for i, item in enumerate(value)]
    said = chat.pop()["content"] if len(chat) > 1 and chat[-1]["role"] == "assistant" else ""
    if not chat or chat[-1]["role"] != "user":
        last = f"it ends with '{chat[-1]['role']}'" if chat else "there is none"
        raise UserError(where, f"column '{column}': expected a user's message at the end, or an assistant's behind it; {last}")
    return chat[:-1], chat[-1]["content"], said


def _message(item: Any, where: str, at: str) -> Message:
    if not isinstance(item, dict) or not all(isinstance(item.get(key), str) for key in ("role", "content")):
        raise UserError(where, f"{at}: expected a mapping with role and content, both text")
    if more := [key for key, value in item.items() if key not in ("role", "content") and value]:
        raise UserError(where, f"{at}.{more[0]}: nothing reads it; expected role and content alone")
    return {"role": item["role"], "content": item["content"]}
