"""Prompts with verifiable answers, written as one JSONL file a split."""

from __future__ import annotations

from opd_steps.config import plugs
from opd_steps.errors import UserError
from opd_steps.store.artifacts import Job
from opd_steps.store.files import write_jsonl
from opd_steps.tasks import golds
from opd_steps.tasks.hints import Hints
from opd_steps.tasks.rows import TEXTS
from opd_steps.tasks.texts import check_texts, half_pair


def write_splits(job: Job) -> dict:
    """Write train, test and ood rows; their facts.

    Refuses leaks between splits, answers that cannot be read, and a verifier that rejects solutions.
    """
    options = job.options
    if options["system"] is not None and not options["chat"]:
        raise UserError("system", "a system message needs chat: true")
    verifier, hints = plugs.load("tasks/verifiers", options["verifier"]), plugs.load("tasks/hints", options["hints"])
    source = plugs.load("tasks/sources", options["source"])
    found = source.rows(job.seed)
    splits = golds.readable(verifier, found, options["drop_unreadable"], job.note)
    _check(splits, _named(options["source"]), source.trains)
    unsolved = golds.unsolved(verifier, splits, f"verifier '{options['verifier']['name']}'", job.note)
    for split, rows in splits.items():
        splits[split] = [_shown(row, hints) for row in rows]
        write_jsonl(job.stage / f"{split}.jsonl", splits[split])
    texts = (r[column] for rows in splits.values() for r in rows for column in TEXTS if column in r)
    formats = (options["system"] or "", verifier.alphabet, hints.alphabet)
    if half_pair("".join(formats)):
        raise UserError("system, hints, verifier", "half of a surrogate pair is no character")
    return {
        "alphabet": "".join(sorted(set().union(*formats, *texts))),
        "verifier": options["verifier"],
        "hints": options["hints"],
        "chat": options["chat"],
        "system": options["system"],
        "template": options["template"],
        "bos": options["bos"],
        "splits": {split: len(rows) for split, rows in splits.items()},
        "unreadable": {split: len(rows) - len(splits[split]) for split, rows in found.items()},
        "unsolved": unsolved,
    }


def _shown(row: dict, hints: Hints) -> dict:
    """The row as published: without its place, and with `corpus_prompt` for the attempts that its source shows."""
    published = {key: value for key, value in row.items() if key not in ("hints", "where")}
    if "hints" not in row:
        return published
    return published | {"corpus_prompt": hints.hinted_prompt(row["prompt"], **row["hints"])}


def _named(source: dict) -> str:
    """A source with the path that it reads, for messages."""
    path = next((part["path"] for part in plugs.chain(source) if part.get("path")), None)
    return f"source '{source['name']}'" + (f" ({path})" if path else "")


def _check(splits: dict[str, list[dict]], where: str, trained: bool) -> None:
    if not splits["train"] and (trained or not splits["test"]):
        raise UserError(where, "it yields no train rows: none passes its options")
    check_texts(splits, where)
    prompts = {split: {r["prompt"] for r in rows} for split, rows in splits.items()}
    for one, other in (("train", "test"), ("train", "ood"), ("test", "ood")):
        if shared := prompts[one] & prompts[other]:
            message = f"{len(shared)} prompts stand in both {one} and {other}, e.g. {min(shared)!r}"
            raise UserError(where, message)
