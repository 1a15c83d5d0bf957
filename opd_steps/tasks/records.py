"""Records of foreign data sets - JSONL files, hub ids, saved data sets - and the mapping of their columns to rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from opd_steps.errors import UserError
from opd_steps.seeds import derive, rng
from opd_steps.store.jsonl import numbered_lines, read_jsonl
from opd_steps.store.sources import here
from opd_steps.tasks.messages import read_chat
from opd_steps.tasks.rows import SPLITS, row


@dataclass(frozen=True)
class Records:
    """Raw records of one split, and where they came from (for error lines)."""

    path: str
    rows: Sequence[dict] | Iterable[dict]
    lines: bool = False  # a JSONL file: places are line numbers

    def where(self, index: int) -> str:
        if not self.lines:
            return f"{self.path}[{index}]"
        return f"{self.path}:{self._numbers[index]}"

    @cached_property
    def _numbers(self) -> list[int]:
        return [number for number, _ in numbered_lines(self.path)]

    def column(self, index: int, name: str) -> str:
        """Text of a column, or of a place in one (`messages.0.content`); numbers are written out. Raises UserError naming the place and
        the columns found.
        """
        return self._text(self.rows[index], index, name)

    def _text(self, record: dict, index: int, name: str) -> str:
        there, value = _at(record, name)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            found = f"is {type(value).__name__}, not text or a number" if there else "is missing"
            raise UserError(self.where(index), f"column '{name}' {found}; columns here: {', '.join(map(str, record))}")
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(self.where(index), f"column '{name}' is {value}, no value")
        return str(value)

    def made(
        self, prompt: str, answer: str, solution: str = "", columns: Sequence[str] = (), wording: str = "", chat: str = ""
    ) -> Iterator[dict]:
        """Rows by column names, one after the other, each with its place as `where`; without a `solution` column the answer alone is the
        solution. Without an `answer` column they are prompts alone.

        `columns`: further ones that stay with the rows, as teachers are routed by. `wording`: what is asked, with {prompt} in it. `chat`: a
        column of messages in place of `prompt`; without a `solution` column the assistant's last words are the solution.
        """
        for i, record in enumerate(self.rows):
            if chat:
                before, asked, said = read_chat(_at(record, chat)[1], self.where(i), chat)
            else:
                before, asked, said = [], self._text(record, i, prompt) if prompt else "", ""
            right, solved = (self._text(record, i, name) if name else "" for name in (answer, solution or answer))
            more = {name: self._text(record, i, name) for name in columns}
            made = row(wording.replace("{prompt}", asked) or asked, right, said if said and not solution else solved)
            yield made | ({"before": before} if before else {}) | {"where": self.where(i), "meta": more}

    def to_rows(self, *columns: object, **more: object) -> list[dict]:
        """All of them (`made`)."""
        return list(self.made(*columns, **more))


def _at(record: dict, path: str) -> tuple[bool, object]:
    """(is there something at `path`?, what): a column of this name, else step by step through mappings and lists."""
    if path in record:
        return True, record[path]
    value: object = record
    for part in path.split("."):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return False, None
    return True, value


def from_jsonl(path: str) -> dict[str, Records]:
    """Splits of a folder with <split>.jsonl files, or one file as train."""
    root = here(path)
    if root is None:
        raise UserError(path, "no such data file or folder")
    if root.is_dir():
        files = {split: root / f"{split}.jsonl" for split in SPLITS if (root / f"{split}.jsonl").is_file()}
        if "train" not in files:
            raise UserError(str(root / "train.jsonl"), "no such file; a data folder holds at least train.jsonl")
    else:
        files = {"train": root}
    found = {split: Records(str(file), read_jsonl(file), lines=True) for split, file in files.items()}
    for records in found.values():
        if not records.rows:
            raise UserError(records.path, "no rows in this file: expected a JSON object on each line")
    return found


def from_hub(
    path: str,
    names: dict[str, str],
    subset: str = "",
    revision: str = "",
    files: dict[str, str] | None = None,
    most: dict[str, int] | None = None,
    seed: int = 0,
    where: dict[str, str] | None = None,
    stream: int = 0,
) -> dict[str, Records]:
    """Splits of a data set: a hub id, a folder that `datasets` reads, or one written by save_to_disk. Rows are read from disk as they are
    asked for.

    `names`: the data set's own split name for each of ours; empty names are left out. `files`: which files each of its splits is, where
    it does not say. `where`: the text of columns, or of places in them, that rows must have to be read. `most`: of a split, that many
    of these, drawn by `seed`; 0 = all. `stream`: the rows come as they are read, those of train through a shuffle buffer of so many; then
    `most` are the first of these. 0 = any can be asked for.
    """
    import datasets

    root = here(path)
    saved = root is not None and any((root / name).is_file() for name in ("dataset_dict.json", "dataset_info.json"))
    try:
        if saved:
            data = datasets.load_from_disk(str(root))
            data = data if isinstance(data, dict) else {names["train"] or names["test"]: data}
        else:
            data = datasets.load_dataset(
                str(root or path), subset or None, data_files=files or None, revision=revision or None, streaming=stream > 0
            )
    except Exception as error:  # each format has its own way to fail
        raise UserError(path, f"cannot load this data set: {(str(error) or repr(error)).splitlines()[0]}") from None
    for ours, name in names.items():
        if name and name not in data:
            raise UserError(path, f"no split '{name}' for {ours}; this data set has: {', '.join(data)}")
    found = {}
    for ours, name in names.items():
        if name:
            count = (most or {}).get(ours, 0)
            if stream:
                buffer = stream if ours == "train" else 0
                found[ours] = Records(f"{path}:{name}", _stream(path, data[name], buffer, count, seed, where or {}))
                continue
            rows = _having(data[name], where or {}, f"{path}:{name}")
            picked = sorted(rng(seed, "rows", ours).permutation(len(rows))[:count].tolist()) if count else None
            found[ours] = Records(f"{path}:{name}", rows if picked is None else rows.select(picked))
    for records in found.values():
        if not stream and not records.rows:
            raise UserError(records.path, "no rows in this split")
    return found


def _having(rows: Any, where: dict[str, str], place: str) -> Any:
    """The rows of a data set with this text in these columns; no other column is looked at."""
    if not where:
        return rows
    names = {path if path in rows.column_names else path.split(".")[0] for path in where}
    looked_at = Records(place, rows.select_columns(sorted(names & set(rows.column_names))))
    has = lambda i: all(looked_at.column(i, path) == text for path, text in where.items())
    return rows.select([i for i in range(len(rows)) if has(i)])


def _stream(path: str, rows: Any, buffer: int, count: int, seed: int, where: dict[str, str]) -> Iterator[dict]:
    """A split of `datasets` as it comes, of rows with this text in these columns, shuffled by files and within a buffer, where there is
    one; `count` rows, 0 = all."""
    rows = rows.to_iterable_dataset() if hasattr(rows, "to_iterable_dataset") else rows  # of save_to_disk
    if where:
        rows = rows.filter(lambda record: all(str(_at(record, column)[1]) == text for column, text in where.items()))
    rows = rows.shuffle(seed=derive(seed, "stream"), buffer_size=buffer) if buffer else rows
    try:
        yield from rows.take(count) if count else rows
    except Exception as error:  # each format has its own way to fail, and so has the net
        raise UserError(path, f"cannot read on in this data set: {(str(error) or repr(error)).splitlines()[0]}") from None


def hold_out(rows: list[dict], count: int, seed: int, where: str) -> tuple[list[dict], list[dict]]:
    """(train, test): `count` rows drawn by `seed` become the test split; the order of the rest is kept."""
    if count >= len(rows) > 0:
        raise UserError(where, f"cannot hold out {count} of {len(rows)} rows as the test split")
    held = {int(i) for i in rng(seed, "hold_out").permutation(len(rows))[:count]}
    return [r for i, r in enumerate(rows) if i not in held], [rows[i] for i in sorted(held)]
