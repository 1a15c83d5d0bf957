"""Mistakes of the user: one clear line, exit status 2, before anything is computed."""

from __future__ import annotations

import errno
import os
import re
import sys
from contextlib import contextmanager


class UserError(Exception):
    """A mistake in a config, a data file or a checkpoint: `where` (file and key), then what was expected."""

    def __init__(self, where: str, message: str):
        self.place = where  # as the raiser spelled it
        shown = re.sub(r"(\.ya?ml|^--config)\.", r"\1: ", where, count=1)  # paper.yaml.nodes.x -> paper.yaml: nodes.x
        self.where = _printable(shown)
        self.message = _printable(" ".join(str(message).split()))
        super().__init__(f"{self.where}: {self.message}")


def _printable(text: str) -> str:
    """One line that any terminal shows: a line break, say, as \\n."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class NotFinite(UserError):
    """A weight, a log-probability or a reward that is nan or infinite: no user's mistake as such, but no result either."""


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)
_RUST = re.compile(r"\(os error (\d+)\)")  # safetensors and tokenizers tell a system's error in words


@contextmanager
def disk_errors(where: object):
    """A disk that is full, read-only or broken, or has something else in the way, is no bug: UserError that names the file, or `where` if
    the error names none."""
    try:
        yield
    except Exception as error:
        told = _RUST.search(str(error))
        number = error.errno if isinstance(error, OSError) else int(told[1]) if told else None
        if number not in (*_FULL, *_REFUSED):
            raise
        hint = "; make room and run again, it goes on" if number in _FULL else ""
        raise UserError(str(getattr(error, "filename", None) or where), os.strerror(number) + hint) from None


@contextmanager
def one_line_errors():
    """Turn a UserError into its one line on stderr and exit status 2."""
    try:
        yield
    except UserError as error:
        print(f"distillery: error: {error}", file=sys.stderr, flush=True)
        raise SystemExit(2) from None
