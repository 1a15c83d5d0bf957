"""Flows of images go the whole way in a workflow, and killed at any moment they end with the same bytes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.pipeline.checkout import Checkout
from tests.pipeline.test_resume import killed

PAPER = Path(__file__).parent / "flow.yaml"
KILLED = [("rl", "teacher"), ("opd", "straight"), ("opd", "routed"), ("opd", "told"), ("opd", "adapted")]
KILLS = 3


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Checkout:
    checkout = Checkout(tmp_path_factory.mktemp("flow"))
    shutil.copy(PAPER, checkout.folder / "workflow/papers/flow.yaml")
    checkout.snakemake("all", "--config", "papers=[flow]", "seeds=[0]")
    return checkout


def test_figures_and_pictures_are_there(ran):
    results = ran.folder / "results"
    for claim in json.loads((results / "report/claims.json").read_text())["claims"]:
        assert claim["direction"]["verdict"] == "not enough evidence", claim  # of one seed: both sides were measured
    for name in ("base", "routed", "told", "adapted", "both"):
        folder = results / f"flow/evaluate/{name}/seed0"
        shown = json.loads((folder / "manifest.json").read_text())["facts"]["pictures"]
        assert (folder / shown["test"]).read_bytes().startswith(b"\x89PNG")
    index = json.loads((results / "flow/opd/routed/seed0/model/model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusion3Pipeline"
    adapter = results / "flow/opd/adapted/seed0"
    assert (adapter / "adapter/adapter_model.safetensors").exists() and not (adapter / "model").exists()


@pytest.mark.parametrize(("kind", "name"), KILLED)
def test_killed_at_random_moments(ran, kind, name):
    if (ran.folder / "tests").is_symlink():
        (ran.folder / "tests").unlink()
    unbroken, resumed = killed(ran, "flow", kind, name, KILLS)
    assert {name: resumed.get(name) == data for name, data in unbroken.items()} == dict.fromkeys(resumed, True)
