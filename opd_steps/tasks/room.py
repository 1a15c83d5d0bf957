"""Whether the rows that nodes will make of their data fit the models that read them, and the engines."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from opd_steps.config import plugs
from opd_steps.errors import UserError
from opd_steps.graph.row_lengths import Rows
from opd_steps.store.artifacts import read_manifest
from opd_steps.tasks.audit import Audit, model_place
from opd_steps.tasks.seen_audit import longest_seen


def check_rows(results: Path, asked: list[Rows]) -> tuple[list[dict], list[str]]:
    """(longest row of each, notes). Raises UserError naming node, row and figures of what does not fit, and what Audit refuses."""
    audits: dict[tuple, Audit] = {}
    readings: dict[str, Any] = {}
    measured: dict[tuple, tuple[int, str]] = {}
    found = []
    for rows in asked:
        facts = read_manifest(results / rows.tokens)["facts"]
        task = read_manifest(results / rows.data)["facts"]["task"]
        # two models may have one tokenizer
        key = rows.data, facts.get("tokenizer", {}).get("digest"), tuple(facts.get("ends", ())), facts.get("vocab_size")
        what = rows.split, rows.column, rows.limit, rows.context
        try:
            if plugs.constant("tasks/worlds", task["name"], "TEXTS"):
                if rows.answer:
                    rows = replace(rows, answer=plugs.load("tasks/worlds", task).room(rows.answer))
                if key not in audits:
                    audits[key] = Audit(results / rows.data, results / rows.tokens)
                longest = audits[key].longest
            else:
                if rows.tokens not in readings:
                    readings[rows.tokens] = _reading(results / rows.tokens, facts)
                key, longest = (rows.data, rows.tokens), partial(longest_seen, results / rows.data, readings[rows.tokens])
                if readings[rows.tokens] is None:
                    continue
            if (*key, *what) not in measured:
                measured[*key, *what] = longest(*what)
        except UserError as error:
            raise UserError(f"node {rows.node}", f"{error.where}: {error.message}") from None
        length, place = measured[*key, *what]
        require_room(rows, length, place, _rooms(results, rows))
        inside = place.removeprefix(f"{results}/")
        found.append({"node": rows.node, "longest": length, "place": inside, "answer": rows.answer, "model": rows.tokens})
    return found, [note.replace(f"{results}/", "") for audit in audits.values() for note in audit.notes]


def _reading(model: Path, facts: dict) -> Any:
    """What tells the tokens of contexts that are no text; None where the model's family has none."""
    return plugs.load("models/families", facts["family"]).reading(model_place(model)) if "tokenizer" in facts else None


def require_room(rows: Rows, length: int, place: str, rooms: dict[str, int]) -> None:
    """Raises UserError where `length` tokens and the answer are more than the least of `rooms`."""
    needed = length + rows.shown + rows.answer
    for name, room in rooms.items():
        if needed > room:
            what = f"the longest {'row' if rows.column else 'context' if rows.context else 'prompt'}"
            shown = f", a debate of up to {rows.shown}" if rows.shown else ""
            answer = f"{shown}, and an answer of up to {rows.answer} makes {needed}" if rows.answer else ""
            raise UserError(f"node {rows.node}", f"{what} has {length} tokens ({place}){answer}; {name} {room}")


def _rooms(results: Path, rows: Rows) -> dict[str, int]:
    """What the rows must fit in, by a text that names it."""
    found = {f"{rows.node}.{option} is": tokens for option, tokens in rows.caps}
    for model in rows.models:
        room = read_manifest(results / model)["facts"].get("positions")
        if room is not None:
            found[f"the positions of {model} (max_position_embeddings) are"] = room
    return found
