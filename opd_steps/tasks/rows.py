"""Rows of a task: prompt, answer, solution and corpus text, in splits that share no prompt.

A row of a file has `where`, its place for messages, which is not published. A published row may also have `corpus_prompt`: the
prompt as pretraining shows it, when that is not `prompt`; and `before`: the messages of the chat in which the prompt is the last of a user.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from opd_steps.errors import UserError

SPLITS = ("train", "test", "ood")
TEXTS = ("prompt", "answer", "solution", "corpus", "corpus_prompt")


def row(prompt: str, answer: str, solution: str, corpus: str | None = None, **meta: object) -> dict:
    """One row. `solution`: a full correct completion. `corpus`: the text to pretrain on, the solution unless it is noisy."""
    return {
        "prompt": prompt,
        "answer": answer,
        "solution": solution,
        "corpus": solution if corpus is None else corpus,
        "meta": meta,
    }


def asked(row: Mapping) -> str:
    """What a model is asked, as one text: rows that are asked the same are the same prompt."""
    return json.dumps([row["before"], row["prompt"]]) if row.get("before") else row["prompt"]


def splits(train: Iterable[dict], test: Iterable[dict], ood: Iterable[dict] = ()) -> dict[str, list[dict]]:
    """The splits with ids `<split>-<i>`, whatever ids the rows had; a prompt of test is dropped from ood and train, one of ood from train.

    Raises UserError where that leaves no train row.
    """
    test, train = list(test), list(train)
    held = {asked(r) for r in test}
    ood = [r for r in ood if asked(r) not in held]
    held |= {asked(r) for r in ood}
    parts = {"train": [r for r in train if asked(r) not in held], "test": test, "ood": ood}
    if train and not parts["train"]:
        raise UserError("train split", f"no row is left of {len(train)}: the prompt of each also stands in test or ood")
    return {name: list(_numbered(name, rows)) for name, rows in parts.items()}


def streamed(train: Iterable[dict], test: list[dict], ood: list[dict]) -> dict[str, Iterable[dict]]:
    """The same of train rows that come one after the other: they can be gone through once."""
    parts = splits((), test, ood)
    held = {asked(r) for name in ("test", "ood") for r in parts[name]}
    return parts | {"train": _numbered("train", (r for r in train if asked(r) not in held))}


def _numbered(split: str, rows: Iterable[dict]) -> Iterator[dict]:
    for i, row in enumerate(rows):
        yield {"id": f"{split}-{i}", **{key: value for key, value in row.items() if key != "id"}}
