"""What suites show beside figures: images, ways of a robot, drafts by what became of them, films of texts; model beside model."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from opd_steps.findings.results import Plan, Result
from opd_steps.report.comparison import evaluations
from opd_steps.report.samples import ROLES, roles

LARGEST = 300_000  # bytes of a picture that a page holds; of a larger one it says where it lies


@dataclass(frozen=True)
class Shown:
    """One split of one data set, as each model did it: (name, role, what it made). `kind`: pictures, drafts, films."""

    kind: str
    split: str
    data: str
    seed: int
    each: list[tuple[str, str, Any]]


def shown(plan: Plan, paper: str) -> list[Shown]:
    """Of the first seed, what the facts of evaluations name: `pictures`, {split: file}, as (address, file), "" for one too large; as they are
    `drafts`, {split: [{prompt, blocks: [accepted, rejected, said by the target]}]}, and `films`, {split: [{prompt, right, frames: [[state,
    text]]}]}."""
    as_it_is = lambda run, texts: texts
    texts = [each for kind in ("drafts", "films") for each in _by_split(plan, paper, kind, as_it_is)]
    return [*_by_split(plan, paper, "pictures", _picture), *texts]


def _by_split(plan: Plan, paper: str, kind: str, read: Callable[[Result, Any], Any]) -> list[Shown]:
    role_of, groups = roles(plan, paper)[0], {}
    for node, runs in evaluations(plan, paper):
        seed, run = next(iter(runs.items()))
        for split, value in run.manifest["facts"].get(kind, {}).items():
            place = node["parents"].get("data", "").rpartition("/")[2], split, seed
            role = role_of.get(run.variant, role_of.get(run.variant.partition(":")[0], ""))
            groups.setdefault(place, []).append((run.variant, role, read(run, value)))
    by_role = lambda each: sorted(each, key=lambda entry: ROLES.index(entry[1]))
    return [Shown(kind, split, data, seed, by_role(each)) for (data, split, seed), each in groups.items()]


def _picture(run: Result, file: str) -> tuple[str, str]:
    content = (run.folder / file).read_bytes()
    address = f"data:image/png;base64,{base64.b64encode(content).decode()}" if len(content) <= LARGEST else ""
    return address, f"{run.path}/{file}"
