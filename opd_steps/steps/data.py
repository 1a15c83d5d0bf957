"""The data step: prompts with verifiable answers, written as one JSONL file a split."""

from __future__ import annotations

from opd_steps.artifacts import Job
from opd_steps.config import plugs
from opd_steps.errors import UserError
from opd_steps.files import write_jsonl
from opd_steps.steps._main import main
from opd_steps.tasks.attempts import Hints
from opd_steps.tasks.rows import TEXTS
from opd_steps.tasks.verify import Verifier, rewards

_SAMPLE = 100  # rows of a split whose solutions are judged


def data(job: Job) -> None:
    """Write train, test and ood rows; refuses leaks between splits and a verifier that rejects the solutions."""
    options = job.options
    if options["system"] is not None and not options["chat"]:
        raise UserError("system", "a system message needs chat: true")
    verifier, hints = plugs.load("tasks/verifiers", options["verifier"]), plugs.load("tasks/hints", options["hints"])
    splits = plugs.load("tasks/sources", options["source"]).rows(job.seed)
    _check(splits, options["source"]["name"])
    shares = {split: _solved(verifier, rows[:_SAMPLE]) for split, rows in splits.items()}
    if min(shares.values()) < 0.5:
        message = f"rejects most solutions of source '{options['source']['name']}' (accepts {shares}); are its options right?"
        raise UserError(f"verifier '{options['verifier']['name']}'", message)
    for split, rows in splits.items():
        splits[split] = [_shown(row, hints) for row in rows]
        write_jsonl(job.stage / f"{split}.jsonl", splits[split])
    texts = (r[column] for rows in splits.values() for r in rows for column in TEXTS if column in r)
    formats = (options["system"] or "", getattr(verifier, "alphabet", ""), hints.alphabet)
    facts = {
        "alphabet": "".join(sorted(set().union(*formats, *texts))),
        "verifier": options["verifier"],
        "hints": options["hints"],
        "chat": options["chat"],
        "system": options["system"],
        "splits": {split: len(rows) for split, rows in splits.items()},
    }
    job.publish({f"rows/{split}": len(rows) for split, rows in splits.items()}, facts)


def _shown(row: dict, hints: Hints) -> dict:
    """The row with `corpus_prompt` in place of the attempts that its source shows."""
    if "hints" not in row:
        return row
    shown = hints.hinted_prompt(row["prompt"], **row["hints"])
    return {key: value for key, value in row.items() if key != "hints"} | {"corpus_prompt": shown}


def _check(splits: dict[str, list[dict]], source: str) -> None:
    if not splits["train"]:
        raise UserError(f"source '{source}'", "it yields no train rows")
    prompts = {split: {r["prompt"] for r in rows} for split, rows in splits.items()}
    for one, other in (("train", "test"), ("train", "ood"), ("test", "ood")):
        if shared := prompts[one] & prompts[other]:
            message = f"{len(shared)} prompts stand in both {one} and {other}, e.g. {min(shared)!r}"
            raise UserError(f"source '{source}'", message)


def _solved(verifier: Verifier, rows: list[dict]) -> float:
    """Share of the rows whose own solution the verifier accepts; 1 without rows."""
    scores = rewards(verifier, [r["solution"] for r in rows], [r["answer"] for r in rows])
    return sum(scores) / len(scores) if scores else 1.0


if __name__ == "__main__":
    main(data)
