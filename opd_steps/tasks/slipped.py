"""The texts of walks, written anew in a world where steps slip."""

from __future__ import annotations

from opd_steps.errors import UserError
from opd_steps.seeds import rng
from opd_steps.store.artifacts import Job
from opd_steps.store.files import write_jsonl
from opd_steps.store.jsonl import read_jsonl
from opd_steps.tasks.errands import Errand
from opd_steps.tasks.slips import MARK, slipping


def walk_of(source: dict) -> dict:
    """Options of the source of walks inside others; of two domains, of the first. Raises UserError for one of something else."""
    while inner := source.get("of") or source.get("one"):
        source = inner
    if source["name"] != "walk":
        raise UserError("source", f"the task walk_slips is about walks: expected walk, found {source['name']}")
    return source


def slip_splits(job: Job, slip: float, facts: dict) -> dict:
    """Solutions and corpus of the splits that `write_splits` wrote, with slips; its facts. The corpus of a row that shows something in
    front of its prompt, and answers to that, stays as it is.
    """
    noise = walk_of(job.options["source"])["noise"]
    for split in facts["splits"]:
        path, draw = job.stage / f"{split}.jsonl", rng(job.seed, "slips", split)
        rows = read_jsonl(path)
        for row in rows:
            errand = Errand.read(row["answer"])
            row["solution"] = slipping(errand, slip, 0.0, draw)
            said = slipping(errand, slip, noise, draw)
            row["corpus"] = row["corpus"] if "corpus_prompt" in row else said
            of_walk = {key: value for key, value in row["meta"].items() if key not in ("corpus_steps", "strays")}
            row["meta"] = of_walk | {"steps": errand.shortest, "slips": row["solution"].count(MARK)}
        write_jsonl(path, rows)
    return facts | {"alphabet": "".join(sorted({*facts["alphabet"], MARK}))}
