"""Look for inputs that are not refused well: `python -m tests.broken --cases 2000 --seed 3`. The shortest case of each kind of fault."""

from __future__ import annotations

import argparse
import re

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.broken import configs, folders, rows


def look(module, cases: int, number: int) -> dict[str, tuple[str, str]]:
    """{kind of fault: (the shortest case, the fault)}."""
    found: dict[str, tuple[str, str]] = {}

    @seed(number)
    @settings(
        max_examples=cases, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(module.everything)
    def examine(case) -> None:
        if fault := module.examine(case):
            kind = re.sub(r"'.*?'|\".*?\"|\d+", "_", fault)[:70]
            if kind not in found or len(case.what) < len(found[kind][0]):
                found[kind] = case.what, fault

    examine()
    return found


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--cases", type=int, default=1000, help="of each kind of input")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--only", choices=("configs", "rows", "folders"))
args = parser.parse_args()
for module in (configs, rows, folders):
    if args.only and not module.__name__.endswith(args.only):
        continue
    found = look(module, args.cases, args.seed)
    print(f"{module.__name__}: {args.cases} cases, {len(found)} kinds of faults", flush=True)
    for what, fault in found.values():
        print(f"  {what}\n      {fault}")
