"""What is kept of single tokens: the objective's own figures, of the rows that are to be shown, and nothing else moves for it."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from opd_steps.config.merge import merge
from opd_steps.graph.method import Method
from opd_steps.loop.objective import Objective
from opd_steps.loop.passes import Tokens
from opd_steps.loop.tokens import FILE, ROWS, TOKENS, Eye, TokenLog
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.stream import Moment
from tests.unit.opd_toys import NODE, run
from tests.unit.test_loop_terms import WINDOW, policies, rows_of

MODELS = policies()
ROWS_7 = rows_of(MODELS["student"], 4, 2)
LETTERS = SimpleNamespace(decode=lambda ids: "".join(chr(97 + i) for i in ids))


def backward(eye: Eye | None, micro_batch: int | Tokens = 64, **options) -> tuple[torch.Tensor, dict]:
    student, teachers = MODELS["student"], {name: MODELS[name] for name in ("teacher", "reference")}
    objective = Objective.from_method(merge(Method, options, "test"), WINDOW)
    stats = objective.backward(student, ROWS_7, {}, teachers, micro_batch, Moment(window=WINDOW), eye=eye)
    flat = torch.cat([p.grad.flatten() for p in student.model.parameters()])
    student.model.zero_grad(set_to_none=True)
    return flat, stats


def plain(name: str) -> list[float]:
    """Log-probs of the actions."""
    dist = MODELS[name].dist(ROWS_7).chunk(0, len(ROWS_7.action_N))
    return dist.logp(ROWS_7.action_N).tolist()


@pytest.mark.parametrize("micro_batch", [1, 3, 64, Tokens(12), Tokens(20, packed=True)], ids=str)
def test_it_sees_what_the_objective_sees_and_moves_nothing(micro_batch):
    eye = Eye(ROWS_7, [0, 3])
    seen, unseen = backward(eye, micro_batch), backward(None, micro_batch)
    assert torch.equal(seen[0], unseen[0]) and seen[1] == unseen[1]
    wanted = [i for i, owner in enumerate(ROWS_7.owner_N.tolist()) if owner in (0, 3)]
    student, teacher = plain("student"), plain("teacher")
    assert sorted(eye.found["log_ratio"]) == sorted(eye.found["entropy"]) == wanted
    for i in wanted:
        assert eye.found["student"][i] == pytest.approx(student[i], abs=1e-5)
        assert eye.found["log_ratio"][i] == pytest.approx(teacher[i] - student[i], abs=1e-5)
        assert eye.found["weight"][i] == pytest.approx(1)


def test_masked_tokens_weigh_nothing_and_weights_are_those_of_the_loss():
    where = {"name": "more_likely_by", "first": "teacher", "second": "reference"}
    eye = Eye(ROWS_7, list(range(len(ROWS_7))))
    backward(eye, where=[where], coef=0.5, add=[{"signal": "rkl", "support": "full", "estimator": "exact"}])
    likelier = [a > b for a, b in zip(plain("teacher"), plain("reference"), strict=True)]
    assert [eye.found["weight"][i] > 0 for i in range(len(likelier))] == likelier and len(set(likelier)) == 2
    assert {round(w, 5) for w in eye.found["weight"].values()} == {0.0, 0.5}
    assert {round(w, 5) for w in eye.found["add0_weight"].values()} == {1.0} and "add0_student" not in eye.found


def test_rows_of_different_prompts_cut_and_written_as_text(tmp_path):
    rows = Trajectory(
        [[i] for i in range(20)],
        [torch.arange(k) % 20 for k in range(1, 20)] + [torch.arange(TOKENS + 50) % 20],
        torch.tensor([19, 19, *range(18)]),
        reward_B=torch.full((20,), torch.nan),
        heard=[torch.tensor([[1, 25]])] * 20,
    )
    log = TokenLog(tmp_path, 9, LETTERS)
    assert log.eye(2, rows) is None and {step for step in range(1, 10) if log.eye(step, rows)} == {1, 5, 9}
    eye = log.eye(1, rows)
    assert eye.picks == [0, *range(2, ROWS + 1)]  # a prompt once
    eye.see(torch.arange(len(rows.action_N)), {"a": torch.arange(float(len(rows.action_N))), "b": None})
    log.keep(1, eye)
    log.publish(tmp_path)
    found = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    assert [row["length"] for row in found] == [1, *range(3, ROWS + 2)]
    assert found[1] | {"columns": 0} == {
        "step": 1,
        "prompt": "c",
        "reward": None,
        "length": 3,
        "tokens": ["a", "b", "c"],
        "heard": [[1, "z"]],
        "columns": 0,
    }
    assert found[1]["columns"] == {"a": [3.0, 4.0, 5.0]}
    assert len(Eye(rows, [19]).spans[19]) == TOKENS


def test_a_node_publishes_first_middle_and_last_step(tmp_path):
    run(tmp_path)
    found = [json.loads(line) for line in (tmp_path / NODE / FILE).read_text().splitlines()]
    assert [row["step"] for row in found] == [1] * 3 + [4] * 3 + [8] * 3
    for row in found:
        assert len(row["tokens"]) == row["length"] and "".join(row["tokens"])
        assert {"log_ratio", "advantage", "student", "entropy", "teacher_entropy", "weight"} <= row["columns"].keys()
        assert {len(values) for values in row["columns"].values()} == {row["length"]}
