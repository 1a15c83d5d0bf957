"""A family, a world and a suite of another kind of model than language models are new files, and go the whole way in a workflow."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from opd_steps.rollout.table import read_rollouts
from opd_steps.store.artifacts import read_manifest
from tests.pipeline.checkout import Checkout

HERE = Path(__file__).parent / "reach"
FILES = {"mover.py": "opd_steps/models/families", "reach.py": "opd_steps/tasks/worlds", "reach.yaml": "workflow/papers"}


@pytest.fixture(scope="module")
def reach(tmp_path_factory) -> Checkout:
    checkout = Checkout(tmp_path_factory.mktemp("reach")).without("smoke")
    for name, folder in FILES.items():
        assert not (checkout.folder / folder / name).exists()
        shutil.copy(HERE / name, checkout.folder / folder / name)
    return checkout


@pytest.fixture(scope="module")
def ran(reach) -> Checkout:
    reach.snakemake("all", "--config", "papers=[reach]", "seeds=[0]")
    return reach


def manifest(checkout: Checkout, node: str) -> dict:
    return read_manifest(checkout.folder / f"results/reach/{node}/seed0")


def test_it_learns_and_is_measured_and_reported(ran):
    rewards = {name: manifest(ran, f"evaluate/{name}")["metrics"]["test/reward"] for name in ("slow", "quick", "cloned")}
    assert rewards["quick"] > rewards["slow"] + 0.1 and rewards["cloned"] > rewards["slow"] + 0.1
    claims = json.loads((ran.folder / "results/report/claims.json").read_text())["claims"]
    assert [claim["id"] for claim in claims] == ["reaches"]
    assert claims[0]["these_checkpoints"]["counts"] == {"left is higher": 1}  # over goals: the suite says where they stand
    assert "mover" in str(manifest(ran, "rl/quick")["facts"]["family"])


def test_moves_and_states_are_in_the_table(ran):
    rows = read_rollouts(ran.folder / "results/reach/rollout/played/seed0")
    assert {a.shape[1] for a in rows.actions} == {2} and all(a.dtype == torch.float32 for a in rows.actions)
    assert [s.shape for s in rows.extra["state"]] == [torch.Size([len(a), 4]) for a in rows.actions]
    assert all(torch.equal(s[0, 2:], torch.tensor(goal)) for s, goal in zip(rows.extra["state"], rows.contexts, strict=True))


def test_what_they_do_not_read_or_cannot_do_is_refused(reach):
    text = (HERE / "reach.yaml").read_text().replace("nodes:\n", "nodes:\n  words: {kind: data}\n")
    for old, new, says in (
        ("hidden: 24}", "hidden: 24}, config: {hidden_size: 8}", "start.config: the family 'mover' would not look at it"),
        ("goals: 24}", "goals: 24}, chat: true", "goals.chat: the task 'reach' would not look at it"),
        ("keep: correct", "engine: {name: vllm}", "played.engine.name: vllm runs no mover model: expected local"),
        ("prompts: 12", "resources: {processes: 2}", "quick.resources.processes: a mover model is trained by one process"),
        (
            "start, data: played",
            "start, data: words",
            "cloned.data: 'words' is text (task 'prompts'), which the mover model of student",
        ),
        ("k: 4", "k: 4, fewshot: 2", "options.fewshot: the suite 'played' would not look at it; it reads k"),
        ("suite: played, ", "", "options.suite: 'lm_eval' asks questions in text, and the task 'reach' of its data has none"),
    ):
        (reach.folder / "workflow/papers/reach.yaml").write_text(text.replace(old, new))
        found = reach.snakemake("-n", "all", "--config", "papers=[reach]", check=False)
        assert old in text
        assert found.returncode and says in found.stdout, found.stdout[-2000:]
