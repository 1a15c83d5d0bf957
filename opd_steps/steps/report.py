"""The report step: reads the plan and its results, writes the pages and claims.json beside them."""

from __future__ import annotations

import argparse
import os
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from opd_steps.errors import disk_errors, one_line_errors
from opd_steps.findings.judge import judge
from opd_steps.findings.multiplicity import chance
from opd_steps.findings.results import Plan
from opd_steps.report.site import PAPERS, render
from opd_steps.store.files import write_json
from opd_steps.store.fingerprint import file_sha256
from opd_steps.store.views import MADE_OF, made_of

CHECKPOINTS = (
    "whether the two models of a seed differ on these prompts (paired bootstrap, 95 %); not whether the method is better"
)


def run(plan_file: Path, results: Path, template: Path, out: Path, made: str = "") -> None:
    """Judge every claim, write the pages (`out` is the way in; they open offline), then claims.json, which says what all are made of."""
    plan = Plan.read(plan_file, results)
    claims = judge(plan)
    root = {key: plan.root[key] for key in ("scale", "seeds", "papers")}
    pages = render(plan, claims, template)
    _write(out.parent, pages)
    every = [claim for found in claims.values() for claim in found]
    judged = {"these_checkpoints": CHECKPOINTS, "chance": asdict(chance(every)), "claims": every}
    hashes = {name: file_sha256(out.parent / name) for name in pages}
    write_json(out.with_name("claims.json"), {MADE_OF: made, "pages": hashes} | root | judged)


def _write(folder: Path, pages: dict[str, str]) -> None:
    """The pages of this run, each whole or not at all, and none of another."""
    for name, text in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(path.name + ".tmp")
        scratch.write_text(text, encoding="utf-8")
        os.replace(scratch, path)
    with suppress(FileExistsError):  # tracking says there where MLflow shows a paper's runs; until then it says nothing
        (folder / "mlflow.js").open("x").close()
    for path in (folder / PAPERS).glob("*.html"):
        if f"{PAPERS}/{path.name}" not in pages:
            path.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", required=True, type=Path, help="JSON of the resolved workflow (rules/common.smk)")
    parser.add_argument("--results", required=True, type=Path)
    parser.add_argument("--template", required=True, type=Path, help="folder with the templates and captions.yaml")
    parser.add_argument("--out", required=True, type=Path, help="the page that is the way in; claims.json goes beside it")
    parser.add_argument("--code", default="", help="digest of this step's source")
    parser.add_argument("--inputs", nargs="*", default=[], type=Path, help="all files that the job reads")
    args = parser.parse_args()
    with one_line_errors(), disk_errors(args.out):
        run(args.plan, args.results, args.template, args.out, made_of(args.code, args.inputs))


if __name__ == "__main__":
    main()
