"""LIBERO through its own process: what an episode holds, when it ends, and one line for what fails."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from opd_steps.errors import UserError
from opd_steps.models.families.openvla import OpenVLA
from opd_steps.store.jsonl import read_jsonl
from opd_steps.tasks import libero
from opd_steps.tasks.simulators import Simulators
from opd_steps.tasks.worlds.libero import Libero
from tests.unit.libero_toys import write_libero
from tests.unit.openvla_toys import TINY

PYTHON = "DISTILLERY_LIBERO_PYTHON"
FAMILY = OpenVLA(bins=8, chunk=2)
WORLD = Libero(side=8, settle=2, at_once=2)
SAMPLING = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 3 * 14}


@pytest.fixture
def toy(tmp_path, monkeypatch):
    monkeypatch.setenv(PYTHON, str(write_libero(tmp_path / "libero")))
    monkeypatch.setattr(libero, "simulators", Simulators("opd_steps.tasks.libero_worker", "libero"))


@pytest.fixture(scope="module")
def robot(tmp_path_factory):
    place = tmp_path_factory.mktemp("robot")
    FAMILY.make(SimpleNamespace(stage=place, seed=0, options={"path": None, "revision": None, "config": TINY}))
    return FAMILY.policy(place, sampling=SAMPLING)


def written(world, place):
    place.mkdir()
    return world.write(SimpleNamespace(stage=place, seed=0))["splits"]


def test_every_initial_state_of_every_task_is_a_context(toy, tmp_path):
    assert written(WORLD, tmp_path / "all") == {"train": 6, "test": 6, "ood": 6}
    rows = read_jsonl(tmp_path / "all/train.jsonl")
    said = {"task": "Move to the right", "prompt": "Move to the right"}
    assert rows[4] == {"id": "libero_spatial/1/1", "suite": "libero_spatial", "number": 1, "state": 1, **said}
    assert written(Libero(held_out=1, tasks=[1]), tmp_path / "some") == {"train": 2, "test": 2, "ood": 6}
    assert {row["state"] for row in read_jsonl(tmp_path / "some/test.jsonl")} == {0}
    with pytest.raises(UserError, match=r"task.tasks: libero_spatial has no task 2"):
        written(Libero(tasks=[2]), tmp_path / "none")
    with pytest.raises(UserError, match="expected fewer than the initial states of a task, found 3"):
        written(Libero(held_out=3), tmp_path / "held")


def test_an_episode_ends_at_its_goal_and_what_came_too_late_is_no_decision(toy, robot, tmp_path, monkeypatch):
    written(WORLD, tmp_path / "data")
    pool = WORLD.pool(tmp_path / "data", "train", robot)
    push = torch.tensor([[1.0, *[0.0] * 6], [1.0, *[0.0] * 6]]).numpy()
    monkeypatch.setattr(type(robot), "motions", lambda self, action: push)
    rows = pool.play(robot, [3, 0, 5], [1, 2, 3])
    # to the right: .1 a motion from 0 or .02 until it is beyond .25, the third motion, first of the second look; to the left never
    assert rows.reward_B.tolist() == [1, 0, 1] and rows.ended_B.tolist() == [True, False, True]
    assert rows.length_B.tolist() == [21, 42, 21] and [len(seen) for seen in rows.extra["seen"]] == [2, 3, 2]
    assert [len(row) for row in rows.logp] == [21, 42, 21]
    torch.testing.assert_close(rows.logp_N, robot.dist(rows).logp(rows.action_N).detach(), rtol=1e-4, atol=1e-4)
    steps = [seen[:, 1, 0, -1].tolist() for seen in rows.extra["seen"]]
    assert steps == [[2, 4], [2, 4, 6], [2, 4]]  # behind those in which things fall into place
    assert [int(end[1, 0, -1]) for end in rows.extra["end"]] == [5, 8, 5]
    assert rows.extra["end"][0][0, -1].max() > 0 and rows.extra["end"][0][0, 0, 0] == 0  # turned: the first line is the last
    assert pool.show(rows)[:2] == ["Move to the right: done in 3 motions", "Move to the left: not done in 6 motions"]
    films = pool.film(rows)
    assert [film.shape for film in films] == [(3, 3, 64, 64), (4, 3, 64, 64), (3, 3, 64, 64)]
    assert pool.column("task", 5) == "Move to the right" and pool.name(5) == "libero_spatial/1/2"


def test_a_row_depends_on_its_seed_alone_and_two_at_a_time_are_played(toy, robot, tmp_path):
    written(WORLD, tmp_path / "data")
    pool = WORLD.pool(tmp_path / "data", "train", robot)
    rows, alone = pool.play(robot, [0, 4, 2], [1, 2, 3]), pool.play(robot, [2], [3])
    assert rows.actions[2].equal(alone.actions[0]) and rows.extra["end"][2].equal(alone.extra["end"][0])
    assert len(libero.simulators._sockets) == 2


def test_what_goes_wrong_is_one_line(toy, robot, tmp_path, monkeypatch):
    written(WORLD, tmp_path / "data")
    pool = WORLD.pool(tmp_path / "data", "train", robot)
    monkeypatch.setattr(type(robot), "motions", lambda self, action: torch.full((2, 7), 9.0).numpy())
    with pytest.raises(UserError, match=r"^libero: the simulator failed: ValueError: too far$"):
        pool.play(robot, [0], [0])
    with pytest.raises(UserError, match="its arm has 7 motors: expected a policy of so many dims, found 2"):
        WORLD.pool(tmp_path / "data", "train", SimpleNamespace(family=SimpleNamespace(dims=2)))
    monkeypatch.setenv(PYTHON, str(tmp_path / "nothing"))
    with pytest.raises(UserError, match=rf"is not there: make libero, or name its Python in {PYTHON}"):
        Simulators("opd_steps.tasks.libero_worker", "libero").ask({0: ("tasks", "libero_spatial")})
    (tmp_path / "mute").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "mute").chmod(0o755)
    monkeypatch.setenv(PYTHON, str(tmp_path / "mute"))
    with pytest.raises(UserError, match="a simulator has ended"):
        Simulators("opd_steps.tasks.libero_worker", "libero").ask({0: ("tasks", "libero_spatial")})
