"""JSONL files, read strictly: every line is a JSON object (RFC 8259) of text that can be written again and numbers that are numbers."""

from __future__ import annotations

import codecs
import json
import sys
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

from opd_steps.errors import UserError


def read_jsonl(path: Path | str) -> list[dict]:
    """Rows of a file; blank lines are none. Raises UserError with the line number of the first that is no such object."""
    return [_row(line, f"{path}:{number}") for number, line in numbered_lines(path)]


def numbered_lines(path: Path | str) -> list[tuple[int, bytes]]:
    """(line number, line) of all lines that are not blank."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(str(path), f"cannot read this data file: {error.strerror}") from None
    lines = data.removeprefix(codecs.BOM_UTF8).split(b"\n")  # splitlines() would also cut at U+2028 inside a text
    return [(number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _row(line: bytes, where: str) -> dict:
    try:
        row = json.loads(line.decode(), parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_once)
        if b"\\ud" in line.lower():  # may be half of a pair, which no encoding can write
            json.dumps(row, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise UserError(where, f"not valid JSON: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise UserError(where, f"not UTF-8 text: byte {line[error.start]:#04x}") from None
    except UnicodeEncodeError as error:
        raise UserError(where, f"half of a surrogate pair: {error.object[error.start]!r} is no character") from None
    except RecursionError:
        raise UserError(where, "nested too deeply") from None
    except _Refused as error:
        raise UserError(where, str(error)) from None
    except ValueError:  # Python reads no longer ones
        raise UserError(where, f"a whole number of more than {sys.get_int_max_str_digits()} digits; put it in quotes") from None
    if not isinstance(row, dict):
        raise UserError(where, f"expected a JSON object, found {type(row).__name__}")
    return row


class Lines(Sequence):
    """The rows of a file that stay on disk: each is read when it is asked for, as strictly. In memory are 8 bytes a row."""

    def __init__(self, path: Path | str, starts: array | None = None):
        self.path, self.starts = path, _starts(path) if starts is None else starts

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int | slice) -> dict | Lines:
        if isinstance(index, slice):
            return Lines(self.path, self.starts[index])
        return next(self._read([self.starts[index]]))

    def __iter__(self) -> Iterator[dict]:
        return self._read(self.starts)

    def _read(self, starts: Sequence[int]) -> Iterator[dict]:
        with open(self.path, "rb") as file:
            for start in starts:
                file.seek(start)
                line = file.readline().rstrip(b"\n")
                yield _row(line, f"{self.path}: the line at byte {start}")


def _starts(path: Path | str) -> array:
    """Where each line begins that is not blank."""
    found, at = array("q"), 0
    try:
        with open(path, "rb") as file:
            for line in file:
                bom = len(codecs.BOM_UTF8) if at == 0 and line.startswith(codecs.BOM_UTF8) else 0
                if line[bom:].strip():
                    found.append(at + bom)
                at += len(line)
    except OSError as error:
        raise UserError(str(path), f"cannot read this data file: {error.strerror}") from None
    return found


class _Refused(Exception):
    pass


def _refuse(name: str) -> None:
    raise _Refused(f"not valid JSON: {name} is no number")


def _once(pairs: list[tuple[str, object]]) -> dict:
    row = dict(pairs)
    if len(row) < len(pairs):  # Python takes the last
        names = [name for name, _ in pairs]
        raise _Refused(f"the key '{next(name for name in names if names.count(name) > 1)[:60]}' stands twice")
    return row


def _finite(text: str) -> float:
    number = float(text)
    return number if abs(number) != float("inf") else _refuse(text[:20])
