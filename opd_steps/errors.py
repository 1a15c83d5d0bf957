"""Mistakes of the user: one clear line, exit status 2, before anything is computed."""

from __future__ import annotations

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


@contextmanager
def one_line_errors():
    """Turn a UserError into its one line on stderr and exit status 2."""
    try:
        yield
    except UserError as error:
        print(f"distillery: error: {error}", file=sys.stderr, flush=True)
        raise SystemExit(2) from None
