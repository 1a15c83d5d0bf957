"""Models that see go the whole way in a workflow, and killed at any moment they end with the same bytes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.pipeline.checkout import Checkout
from tests.pipeline.test_resume import killed

PAPER = Path(__file__).parent / "seen.yaml"
KILLED = [("opd", "told"), ("opd", "answers"), ("opd", "chosen")]  # of rewards nobody here has one
KILLS = 3


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Checkout:
    checkout = Checkout(tmp_path_factory.mktemp("seen"))
    shutil.copy(PAPER, checkout.folder / "workflow/papers/seen.yaml")
    checkout.snakemake("all", "--config", "papers=[seen]", "seeds=[0]")
    return checkout


def test_figures_and_pictures_are_there(ran):
    results = ran.folder / "results"
    for claim in json.loads((results / "report/claims.json").read_text())["claims"]:
        assert claim["direction"]["verdict"] == "not enough evidence", claim  # of one seed: both sides were measured
    for name in ("looks", "times"):
        folder = results / f"seen/evaluate/{name}/seed0"
        shown = json.loads((folder / "manifest.json").read_text())["facts"]["pictures"]
        assert (folder / shown["test"]).read_bytes().startswith(b"\x89PNG")
    config = json.loads((results / "seen/opd/told/seed0/model/config.json").read_text())
    assert config["architectures"] == ["Qwen3VLForConditionalGeneration"]


@pytest.mark.parametrize(("kind", "name"), KILLED)
def test_killed_at_random_moments(ran, kind, name):
    if (ran.folder / "tests").is_symlink():
        (ran.folder / "tests").unlink()
    unbroken, resumed = killed(ran, "seen", kind, name, KILLS)
    assert {name: resumed.get(name) == data for name, data in unbroken.items()} == dict.fromkeys(resumed, True)
