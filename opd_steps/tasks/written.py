"""Prompts with verifiable answers, written as one JSONL file a split."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from opd_steps.config import plugs
from opd_steps.errors import UserError
from opd_steps.store.artifacts import Job
from opd_steps.store.files import write_jsonl
from opd_steps.tasks.golds import Golds
from opd_steps.tasks.hints import Hints
from opd_steps.tasks.rows import SPLITS, TEXTS, asked
from opd_steps.tasks.texts import check_texts, half_pair

_AT_ONCE = 4096  # rows that are judged together


def write_splits(job: Job) -> dict:
    """Write train, test and ood rows; their facts. Rows are judged and written as the source gives them, and not kept.

    Refuses leaks between splits, answers that cannot be read, and a verifier that rejects solutions.
    """
    options = job.options
    if options["system"] is not None and not options["chat"]:
        raise UserError("system", "a system message needs chat: true")
    verifier, hints = plugs.load("tasks/verifiers", options["verifier"]), plugs.load("tasks/hints", options["hints"])
    source, where = plugs.load("tasks/sources", options["source"]), _named(options["source"])
    found, done = source.rows(job.seed), {}
    for split in ("test", "ood", "train"):  # the prompts of those before are known
        golds = Golds(verifier, split, options["drop_unreadable"])
        done[split] = passing = _Passing(golds, hints, where, options["chat"], dict(done))
        write_jsonl(job.stage / f"{split}.jsonl", passing.rows(found[split]))
        golds.tell(f"verifier '{options['verifier']['name']}'", job.note)
    if not done["train"].golds.rows and (source.trains or not done["test"].golds.rows):
        raise UserError(where, "it yields no train rows: none passes its options")
    formats = (options["system"] or "", verifier.alphabet, hints.alphabet)
    if half_pair("".join(formats)):
        raise UserError("system, hints, verifier", "half of a surrogate pair is no character")
    of = lambda figure: {split: getattr(done[split].golds, figure) for split in SPLITS}
    return {
        "alphabet": "".join(sorted(set().union(*formats, *(passing.alphabet for passing in done.values())))),
        "verifier": options["verifier"],
        "hints": options["hints"],
        "chat": options["chat"],
        "system": options["system"],
        "template": options["template"],
        "bos": options["bos"],
        "splits": of("rows"),
        "unreadable": of("left_out"),
        "unsolved": of("unsolved"),
    }


@dataclass
class _Passing:
    """A split on its way to its file. `before`: the splits that came before, which share no prompt with it."""

    golds: Golds
    hints: Hints
    where: str
    chat: bool
    before: dict[str, _Passing]
    prompts: set[str] = field(default_factory=set)  # but for the last split: that may be large
    alphabet: set[str] = field(default_factory=set)

    def rows(self, found: Iterable[dict]) -> Iterator[dict]:
        split, left = self.golds.split, iter(found)
        known = {name: passing.prompts for name, passing in self.before.items()}
        shared: dict[str, set[str]] = {name: set() for name in known}
        while part := list(islice(left, _AT_ONCE)):
            part = self.golds.readable(part)
            if not self.chat and (row := next((row for row in part if row.get("before")), None)):
                raise UserError(row.get("where", self.where), "messages stand before this prompt: expected chat: true")
            check_texts({split: part}, self.where)
            self.golds.solve(part)
            for row in part:
                shown = _shown(row, self.hints)
                self.alphabet.update(*(shown[column] for column in TEXTS if column in shown))
                self.alphabet.update(*(message["content"] for message in row.get("before", ())))
                for name in known:
                    if asked(row) in known[name]:
                        shared[name].add(asked(row))
                if split != "train":
                    self.prompts.add(asked(row))
                yield shown
        for name, prompts in shared.items():
            if prompts:
                message = f"{len(prompts)} prompts stand in both {split} and {name}, e.g. {min(prompts)!r}"
                raise UserError(self.where, message)


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
