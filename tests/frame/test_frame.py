"""The frame carries what is written as new files alone: each folder here is such a thing, added to a clone and used whole.

flow     a flow policy on toy images with a Gaussian step: its own family, task and suite
peers    two students that teach each other
critic   a policy and its discriminator, of another family, that rewards it
router   two routed teachers with different heads, the student's own average with a privileged context, a router of tokens
world    a policy that acts in an environment: its own family, task and suite
records  per-record gradients
slips    a language model that walks in a world which answers it: all kinds of rows with tokens that others wrote
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline.checkout import ROOT, Checkout
from tests.pipeline.test_resume import link_to_tests, tree

HERE = Path(__file__).parent
KILLED = {
    "flow": [("opd", "analytic"), ("rl", "teacher")],
    "peers": [("opd", "both")],
    "critic": [("opd", "adversarial")],
    "router": [("opd", "routed")],
    "world": [("opd", "distilled"), ("rl", "student_rl")],
    "records": [("opd", "private")],
    "slips": [("opd", "stale"), ("rl", "teacher")],
}
KILLS = 3


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*.py")}


@pytest.mark.parametrize("name", KILLED)
def test_new_files_alone(name, tmp_path):
    """Clone, copy, `snakemake all`: models, figures, claims and tracked runs are there, and the clone has nothing but new files."""
    checkout = Checkout(tmp_path / "clone")
    added = HERE / name
    assert not files(added / "opd_steps") & files(ROOT / "opd_steps")  # it writes over nothing
    shutil.copytree(added, checkout.folder, dirs_exist_ok=True)
    shutil.move(checkout.folder / "paper.yaml", checkout.folder / f"workflow/papers/{name}.yaml")
    checkout.snakemake("all", "--config", f"papers=[{name}]")

    results = checkout.folder / "results"
    for claim in json.loads((results / "report/claims.json").read_text())["claims"]:
        assert claim["direction"]["verdict"] == "not enough evidence", claim  # of one seed: both sides were measured
    page = (results / "report/index.html").read_text()
    manifests = [json.loads(path.read_text()) for path in results.glob(f"{name}/*/*/seed*/manifest.json")]
    for manifest in manifests:
        assert manifest["node"].replace("__", ":") in page
    with sqlite3.connect(results / "mlflow.db") as database:
        (runs,) = database.execute("SELECT count(*) FROM runs WHERE lifecycle_stage = 'active'").fetchone()
    assert runs == len(manifests) + 1  # and that of the paper

    env = link_to_tests(checkout)
    for kind, node in KILLED[name]:
        folder = results / f"{name}/{kind}/{node}/seed0"
        unbroken = tree(folder)
        shutil.rmtree(folder)
        command = [sys.executable, "-m", "tests.pipeline.killer", "--paper", name, "--kind", kind, "--node", node]
        run = subprocess.run(
            [*command, "--kills", str(KILLS)],
            cwd=checkout.folder,
            env=env,
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stderr[-3000:]
        assert json.loads(run.stdout)["kills"] >= KILLS and json.loads(run.stdout)["resumed"] >= 1
        resumed = tree(folder)
        assert {name: resumed.get(name) == data for name, data in unbroken.items()} == dict.fromkeys(resumed, True)
