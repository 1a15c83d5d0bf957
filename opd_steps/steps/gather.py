"""The manifests of a paper's results, as one file that changes when any of them does."""

from __future__ import annotations

import argparse
from pathlib import Path

from opd_steps.artifacts import MANIFEST, write_json
from opd_steps.fingerprint import file_sha256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", required=True, type=Path)
    parser.add_argument("--paper", required=True)
    parser.add_argument("--out", required=True, type=Path, help="JSON to write: path of a manifest -> its sha256")
    args = parser.parse_args()
    found = args.results.joinpath(args.paper).glob(f"*/*/seed*/{MANIFEST}")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(args.out, {str(path.relative_to(args.results)): file_sha256(path) for path in found})


if __name__ == "__main__":
    main()
