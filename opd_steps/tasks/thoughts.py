"""What a model thinks before it answers, between `<think>` and `</think>`: never judged."""

from __future__ import annotations

import re

TAGS = ("<think>", "</think>", "<thinking>", "</thinking>")
_TAG = re.compile(r"<(/?)think(?:ing)?>", re.IGNORECASE)
_OPENED = re.compile(r"<think(?:ing)?>\s*\Z", re.IGNORECASE)


def after_thought(completion: str) -> str | None:
    """What follows the last `</think>`; all of it without such tags; None when a thought was opened and never ended."""
    tags = list(_TAG.finditer(completion)) if "<" in completion else []
    if not tags:
        return completion
    return completion[tags[-1].end() :] if tags[-1][1] else None


def opened(prompt: str) -> str:
    """The tag with which a prompt begins the thought of its answer, as templates of DeepSeek-R1 do; "" where the answer begins it itself."""
    found = _OPENED.search(prompt)
    return found[0] if found else ""
