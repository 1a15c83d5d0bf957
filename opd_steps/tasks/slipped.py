"""The texts of walks, written anew in a world where steps slip."""

from __future__ import annotations

from opd_steps.seeds import rng
from opd_steps.store.artifacts import Job
from opd_steps.store.files import write_jsonl
from opd_steps.store.jsonl import read_jsonl
from opd_steps.tasks.errands import Errand
from opd_steps.tasks.slips import MARK, slipping


def slip_splits(job: Job, slip: float, facts: dict) -> dict:
    """Solutions and corpus of the splits that `write_splits` wrote, with slips; its facts."""
    noise = job.options["source"]["noise"]
    for split in facts["splits"]:
        path, draw = job.stage / f"{split}.jsonl", rng(job.seed, "slips", split)
        rows = read_jsonl(path)
        for row in rows:
            errand = Errand.read(row["answer"])
            row["solution"] = slipping(errand, slip, 0.0, draw)
            row["corpus"] = slipping(errand, slip, noise, draw)
            row["meta"] = {"steps": errand.shortest, "slips": row["solution"].count(MARK)}
        write_jsonl(path, rows)
    return facts | {"alphabet": "".join(sorted({*facts["alphabet"], MARK}))}
