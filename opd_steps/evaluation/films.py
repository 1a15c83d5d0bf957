"""Texts as they were uncovered, as a page of their own: what MLflow shows of them."""

from __future__ import annotations

from html import escape
from pathlib import Path

COVERED, SEEN, NEW = 0, 1, 2
COVER = "·"  # in place of each covered token
_HEAD = '<!doctype html><meta charset="utf-8"><title>Films</title><style>ins { color: #0a7d4f } i { color: #888; font-style: normal }</style>'


def write_films(file: Path, films: list[dict]) -> None:
    """A line for each frame of each film, {prompt, right, frames: [[state, text]]}: just uncovered, seen before, covered."""
    mark = {COVERED: "<i>{}</i>", SEEN: "{}", NEW: "<ins>{}</ins>"}
    page = [_HEAD]
    for film in films:
        lines = ["".join(mark[state].format(escape(text)) for state, text in frame) for frame in film["frames"]]
        page.append(f"<h3>{escape(film['prompt'])} <small>{'right' if film['right'] else 'wrong'}</small></h3>")
        page.append("<pre>" + "\n".join(lines) + "</pre>")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(page) + "\n", encoding="utf-8")
