"""Robots, drafters and masked language models go the whole way in a workflow, and killed at any moment they end with the same bytes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from transformers import ModernBertForMaskedLM

from tests.pipeline.checkout import Checkout
from tests.pipeline.test_resume import killed

PAPER = Path(__file__).parent / "acts.yaml"
KILLED = [
    ("rl", "expert"),
    ("opd", "told"),
    ("opd", "pieces"),
    ("opd", "replayed"),
    ("opd", "anywhere"),
    ("opd", "future"),
    ("rl", "rewarded"),
]
KILLS = 3


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Checkout:
    checkout = Checkout(tmp_path_factory.mktemp("acts"))
    shutil.copy(PAPER, checkout.folder / "workflow/papers/acts.yaml")
    checkout.snakemake("all", "--config", "papers=[acts]", "seeds=[0]")
    return checkout


def test_figures_and_what_was_done_are_there(ran):
    results = ran.folder / "results"
    for claim in json.loads((results / "report/claims.json").read_text())["claims"]:
        assert claim["direction"]["verdict"] == "not enough evidence", claim  # of one seed: both sides were measured
    facts = lambda name: json.loads((results / f"acts/evaluate/{name}/seed0/manifest.json").read_text())["facts"]
    told = facts("arrives")
    assert len(told["episodes"]["test"]) == 6 and ":" in told["episodes"]["test"][0]["text"]
    assert (results / "acts/evaluate/arrives/seed0" / told["pictures"]["test"]).read_bytes().startswith(b"\x89PNG")
    texts = facts("carries")["drafts"]["test"]
    assert len(texts) == 6 and all(len(block) == 3 for text in texts for block in text["blocks"])
    film = facts("decoded")["films"]["test"][0]
    frames = [{state for state, _ in frame} for frame in film["frames"]]
    assert film["prompt"].endswith(">") and all(states <= {0, 1, 2} for states in frames) and 0 not in frames[-1]
    assert "<ins>" in (results / "acts/evaluate/decoded/seed0/films/test.html").read_text()
    assert ModernBertForMaskedLM.from_pretrained(results / "acts/opd/future/seed0/model").config.num_hidden_layers == 1
    metrics = json.loads((results / "acts/evaluate/carries/seed0/manifest.json").read_text())["metrics"]
    assert metrics["test/lossless"] == 1 and 1 <= metrics["test/acceptance"] <= 4


@pytest.mark.parametrize(("kind", "name"), KILLED)
def test_killed_at_random_moments(ran, kind, name):
    if (ran.folder / "tests").is_symlink():
        (ran.folder / "tests").unlink()
    unbroken, resumed = killed(ran, "acts", kind, name, KILLS)
    assert {name: resumed.get(name) == data for name, data in unbroken.items()} == dict.fromkeys(resumed, True)


def test_a_drafter_whose_target_changed_is_refused(ran):
    """It names its target by weights: another one under the same name is none that it was made for."""
    from opd_steps.errors import UserError
    from opd_steps.models.families.drafter import Drafter

    results = ran.folder / "results/acts"
    assert Drafter(block=3).policy(results / "opd/replayed/seed0").family.block == 3
    manifest = results / "pretrain/writer/seed0/manifest.json"
    known = manifest.read_text()
    weights = json.loads(known)
    weights["files"]["model/model.safetensors"]["sha256"] = "0" * 64
    manifest.write_text(json.dumps(weights))
    with pytest.raises(UserError):
        Drafter(block=3).policy(results / "opd/replayed/seed0")
    manifest.write_text(known)
