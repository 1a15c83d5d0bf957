"""Any data set that the `datasets` library reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Annotated, ClassVar

from opd_steps.tasks.records import Records, from_hub, hold_out
from opd_steps.tasks.rows import splits, streamed
from opd_steps.tasks.sources import Source


@dataclass(frozen=True)
class HuggingFace(Source):
    """A hub id, a local folder of data files, or a folder written by `save_to_disk`.

    A column's name may be a path into it: `messages.0.content`, `reward_model.ground_truth`. A prompt that stands in test or ood is
    dropped from train. Raises UserError naming data set, split and row.

    stream: the set is read as it comes, over the net where it lies there; train rows are the first `train_rows` behind a shuffle, by the
    data node's seed, of the order of its files and within the buffer. Without a test split the first `test` of them are held out.
    """

    CHECKS: ClassVar[tuple[str, ...]] = (
        "messages == '' or prompt == 'prompt'",
        "test == 0 or test_split == ''",
        "train_split != '' or test_split != ''",
        "train_split != '' or train_rows == 0",
        "wording == '' or '{prompt}' in wording",
    )

    path: str
    subset: str = ""  # the data set's configuration
    revision: str = ""  # branch, tag or commit on the hub
    files: dict[str, str] = field(
        default_factory=dict
    )  # of a set that is a heap of files: {split: pattern of its files}; empty = all
    train_split: str = "train"  # the data set's names of the splits; empty = it has none, and nothing is trained on
    test_split: str = "test"
    ood_split: str = ""
    prompt: str = "prompt"  # column names
    messages: str = (
        ""  # in place of prompt: a column that is a chat, [{role, content}, ...], up to a user's message or the answer to it
    )
    answer: str = "answer"  # empty: prompts alone, which nobody judges (verifier unjudged)
    solution: str = ""  # empty: the answer is the whole solution
    columns: list[str] = field(
        default_factory=list
    )  # further ones that stay with the rows, e.g. the domain that teachers are routed by
    wording: str = ""  # what is asked, with {prompt} in it; empty: the prompt
    where: dict[str, str] = field(default_factory=dict)  # rows that have this text in these columns alone, e.g. {domain: code}
    train_rows: Annotated[int, "at least 0"] = 0  # of the train split, drawn by the data node's seed; 0 = all
    longest: Annotated[int, "at least 0"] = 0  # characters of a solution; rows with longer ones are left out; 0 = any
    test: Annotated[int, "at least 0"] = 0  # rows held out of train, when test_split is empty
    stream: Annotated[int, "at least 0"] = 0  # rows of a shuffle buffer: train is never whole in memory; 0 = it is read whole

    @property
    def trains(self) -> bool:
        return self.train_split != ""

    def rows(self, seed: int) -> dict[str, list[dict]]:
        names = {"train": self.train_split, "test": self.test_split, "ood": self.ood_split}
        most = {"train": self.train_rows}
        found = from_hub(self.path, names, self.subset, self.revision, self.files, most, seed, self.where, self.stream)
        parts = {split: self._made(records, split) for split, records in found.items()}
        train, ood = parts.get("train", iter(())), list(parts.get("ood", ()))
        if self.stream:
            return streamed(train, list(parts["test"] if "test" in parts else islice(train, self.test)), ood)
        train = list(train)
        train, test = (train, list(parts["test"])) if "test" in parts else hold_out(train, self.test, seed, self.path)
        return splits(train, test, ood)

    def _made(self, records: Records, split: str) -> Iterator[dict]:
        """Rows that are short enough."""
        seen = left = 0
        for row in records.made(self.prompt, self.answer, self.solution, self.columns, self.wording, self.messages):
            seen += 1
            if self.longest and len(row["solution"]) > self.longest:
                left += 1
            else:
                yield row
        if left:
            more = f"whose solution has more than {self.longest} characters"
            print(f"{self.path}:{split}: left out {left} of {seen} rows, {more}", flush=True)
