"""Every text of a data set, judged before it is published."""

from __future__ import annotations

from opd_steps.errors import UserError

_SPOKEN = ("prompt", "solution", "corpus")  # what a model reads or is trained on; a row without an answer is a prompt alone


def check_texts(splits: dict[str, list[dict]], place: str) -> None:
    """Raises UserError for a prompt, solution or corpus text that says nothing, and for text that no encoding can write.

    place   what to name where a row does not know its own
    """
    for rows in splits.values():
        for row in rows:
            where = row.get("where") or f"{place}: {row['id']}"
            for name, value in row.items():
                if isinstance(value, str) and not value.isascii() and (half := half_pair(value)):
                    raise UserError(where, f"{name} holds half of a surrogate pair: {half!r} is no character")
            for message in row.get("before", ()):
                if half := half_pair(message["content"]):
                    raise UserError(where, f"a message holds half of a surrogate pair: {half!r} is no character")
            for name in _SPOKEN if row["answer"] else _SPOKEN[:1]:
                if not row[name].strip():
                    raise UserError(where, f"the {name} is empty")


def half_pair(text: str) -> str | None:
    """The first character that is none: half of a surrogate pair."""
    return next((c for c in text if "\ud800" <= c <= "\udfff"), None)
