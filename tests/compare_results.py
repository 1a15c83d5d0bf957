"""Two results folders, node by node: `python -m tests.compare_results new/results old/results [--renamed mopd_peers=mopd]`.

Two nodes are equal when their files have the same bytes (sha256 of the manifest) and they measured the same figures, bit by bit.
What they were made of (config, code, facts) may differ. Prints what differs, and ends with status 1 if anything does.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def manifests(results: Path, renamed: dict[str, str]) -> dict[str, dict]:
    """By paper/kind/node/seed; a renamed paper stands under its old name."""
    found = {}
    for path in sorted(results.glob("*/*/*/seed*/manifest.json")):
        paper, *rest = path.parent.relative_to(results).parts
        found["/".join((renamed.get(paper, paper), *rest))] = json.loads(path.read_text())
    return found


def differences(new: dict, old: dict) -> list[str]:
    """Files and figures that differ."""
    files = [{name: entry["sha256"] for name, entry in manifest["files"].items()} for manifest in (new, old)]
    named = [f"{name}" for name in sorted(files[0].keys() | files[1].keys()) if files[0].get(name) != files[1].get(name)]
    figures = sorted(new["metrics"].keys() | old["metrics"].keys())
    changed = [name for name in figures if new["metrics"].get(name) != old["metrics"].get(name)]
    return named + [f"{name}: {old['metrics'].get(name)} -> {new['metrics'].get(name)}" for name in changed]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("new", type=Path)
    parser.add_argument("old", type=Path)
    parser.add_argument(
        "--renamed", nargs="*", default=[], metavar="NEW=OLD", help="papers with another name in the old folder"
    )
    args = parser.parse_args()
    new, old = manifests(args.new, dict(pair.split("=") for pair in args.renamed)), manifests(args.old, {})
    found = {name: differences(new[name], old[name]) for name in sorted(new.keys() & old.keys())}
    for name, what in found.items():
        if what:
            print(f"{name}: {'; '.join(what[:5])}" + (f" and {len(what) - 5} more" if len(what) > 5 else ""))
    for side, names in (("new", new.keys() - old.keys()), ("old", old.keys() - new.keys())):
        for name in sorted(names):
            print(f"{name}: only in the {side} results")
    differ = sum(map(bool, found.values()))
    print(f"{len(found) - differ} nodes equal, {differ} differ, {len(new.keys() ^ old.keys())} in one folder alone")
    return int(bool(differ or new.keys() ^ old.keys()))


if __name__ == "__main__":
    sys.exit(main())
