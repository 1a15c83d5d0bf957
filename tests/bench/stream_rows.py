"""Memory and time of a large data set that is streamed, written and read again: python -m tests.bench.stream_rows 1000000"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.unit.test_streams import measured

if __name__ == "__main__":
    for rows in map(int, sys.argv[1:] or ["1000000"]):
        with TemporaryDirectory() as folder:
            found = measured(Path(folder), rows)
        grown = found["read"] - found["before"]
        print(f"{rows:,} rows: {grown} MiB above a set of 2,000, {found['cpu']:.1f} CPU s", flush=True)
