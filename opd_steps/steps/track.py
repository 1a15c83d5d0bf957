"""The track step: imports every published result into MLflow and writes an index of runs, but only when all of it is there."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from opd_steps.errors import disk_errors, one_line_errors
from opd_steps.findings.results import Plan
from opd_steps.store.files import write_json
from opd_steps.store.views import MADE_OF, made_of
from opd_steps.tracking.importer import import_results

LOCAL_SERVER = "http://127.0.0.1:5000/"  # of `mlflow ui`
SCRIPT = """// For the report: where MLflow compares the variants of a paper. Fills every <p data-mlflow="paper">.
const server = %s, links = %s;
for (const place of document.querySelectorAll("[data-mlflow]")) {
  place.append("MLflow: ");
  Object.entries(links[place.dataset.mlflow] || {}).forEach(([says, link], i) => {
    const a = document.createElement("a");
    a.href = server + link;
    a.textContent = says;
    place.append(i ? " · " : "", a);
  });
  place.hidden = !place.querySelector("a");
}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", required=True, type=Path, help="JSON of the resolved workflow (rules/common.smk)")
    parser.add_argument("--results", required=True, type=Path)
    parser.add_argument(
        "--out",
        required=True,
        type=Path,
        help="JSON to write: path of a result, or paper -> run id, and addresses of MLflow's pages; mlflow.js goes beside it",
    )
    parser.add_argument("--code", default="", help="digest of this step's source")
    parser.add_argument("--inputs", nargs="*", default=[], type=Path, help="all files that the job reads")
    args = parser.parse_args()
    with one_line_errors(), disk_errors(args.out):
        made = made_of(args.code, args.inputs)  # before they are read: what changes meanwhile is imported by the next run
        plan = Plan.read(args.plan, args.results)
        uri = plan.root["tracking"]["uri"]
        server = uri.rstrip("/") + "/" if uri.startswith("http") else LOCAL_SERVER
        index = {MADE_OF: made, "server": server} | import_results(plan)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        script = SCRIPT % (json.dumps(server), json.dumps(index["links"], sort_keys=True))
        args.out.with_suffix(".js").write_text(script, encoding="utf-8")
        write_json(args.out, index)


if __name__ == "__main__":
    main()
