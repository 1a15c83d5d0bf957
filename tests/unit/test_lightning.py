"""Lightning OPD (arXiv 2604.13010): a squared error on cached log-probs, its stabilisers, what it asks of a teacher, two styles."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from opd_steps.config.load import load_root
from opd_steps.graph.nodes import Graph
from opd_steps.models.folder import load_model, load_tokenizer
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.nouns.dist import Categorical, Recorded
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.stream import Moment
from opd_steps.objectives.targets.floored import Floored
from opd_steps.rollout.table import read_rollouts, with_scores
from opd_steps.seeds import rng
from opd_steps.tasks.sources.backward import Backward
from opd_steps.tasks.sources.walk import Walk
from opd_steps.tasks.verifiers.either_way import EitherWay
from opd_steps.tasks.verifiers.walk import Walk as Verifier
from opd_steps.teachers.cached import CachedTeacher
from tests.estimator_table.measure import stream
from tests.pipeline.stages import Stages
from tests.unit.objectives_toys import V, close, draw
from tests.unit.opd_toys import PARENTS, curve, nodes, run
from tests.unit.test_loop_terms import WINDOW, objective, policies, rows_of

ROOT = Path(__file__).parents[2]
PAPER = OmegaConf.to_container(OmegaConf.load(ROOT / "workflow/papers/lightning.yaml"))
METHOD = PAPER["nodes"]["offline"]["method"]
ACTION = torch.arange(V)


def logp_rows(policy: LMPolicy, rows: Trajectory) -> list[torch.Tensor]:
    dist = policy.dist(rows)
    return list(dist.chunk(0, len(dist)).logp(rows.action_N).split(rows.length_B.tolist()))


def cached(rows: Trajectory, policy: LMPolicy) -> Trajectory:
    return rows.with_columns(extra={"teacher:logp": [logp.detach() for logp in logp_rows(policy, rows)]})


def gradient_of(student: LMPolicy) -> torch.Tensor:
    found = torch.cat([p.grad.flatten() for p in student.model.parameters()])
    student.model.zero_grad(set_to_none=True)
    return found


def step(student: LMPolicy, rows: Trajectory, **changes) -> tuple[torch.Tensor, dict]:
    """Gradient and figures of the paper's row, the teacher being what the rows hold."""
    row = objective(**METHOD | changes)
    stats = row.backward(student, rows, {}, {"teacher": CachedTeacher()}, 4, Moment(window=WINDOW))
    return gradient_of(student), stats


def squared_error(student: LMPolicy, rows: Trajectory) -> torch.Tensor:
    """Of mean over rows of the mean over a row's tokens of (log p_cached - log q)^2 / 2, by autograd."""
    pairs = zip(rows.extra["teacher:logp"], logp_rows(student, rows), strict=True)
    torch.stack([0.5 * (p - q).square().mean() for p, q in pairs]).mean().backward()
    return gradient_of(student)


def test_its_gradient_is_that_of_half_the_squared_error_and_the_advantage_is_made_anew_at_each_step():
    models = policies()
    rows, student = rows_of(models["student"]), models["student"]
    rows = cached(rows, models["teacher"])
    seen = []
    for _ in range(3):  # the same rows, other weights: what an advantage that was cached with the rows would miss
        found, stats = step(student, rows)
        torch.testing.assert_close(found, squared_error(student, rows), rtol=1e-4, atol=1e-6)
        gaps = [p - q for p, q in zip(rows.extra["teacher:logp"], logp_rows(student, rows), strict=True)]
        assert stats["advantage"] == pytest.approx(float(torch.cat(gaps).detach().mean()), abs=1e-5)
        seen.append(stats["advantage"])
        with torch.no_grad():
            for parameter in student.model.parameters():
                parameter.mul_(0.9)
    assert len(set(seen)) == 3


def test_a_cache_of_its_own_log_probs_has_no_gradient():
    models = policies()
    rows = rows_of(models["student"], 2, 2)  # of one micro-batch, so that both are computed alike to the bit
    found, stats = step(models["student"], cached(rows, models["student"]))
    assert stats["loss"] == 0 and found.abs().max() == 0


def test_adv_clip_bounds_each_tokens_pull():
    z, p = draw(0, n=V)
    x = z.clone().requires_grad_()
    q = Categorical.from_logits(x)
    term = stream(transform=[{"name": "clip", "low": -0.3, "high": 0.3}])
    loss_N, stats = term.loss(q, Evidence(ACTION, teacher=Recorded(p.logp(ACTION))))
    advantage = (p.logp(ACTION) - q.logp(ACTION)).detach().clamp(-0.3, 0.3)
    close(stats["advantage"], advantage)
    score = torch.eye(V, dtype=z.dtype)[ACTION] - z.softmax(-1)
    close(torch.autograd.grad(loss_N.sum(), x)[0], -advantage[:, None] * score)
    assert int((advantage.abs() == 0.3).sum()) not in (0, V)


def test_the_floor_mixes_in_the_uniform_whatever_is_known_of_the_teacher():
    z, p = draw(1, n=V, scale=8.0)
    q, floored, wanted = Categorical.from_logits(z), Floored(share=0.05), (0.95 * p.logp_NV.exp() + 0.05 / V).log()
    whole = floored.of(q, Evidence(ACTION, teacher=p))
    close(whole.logp_NV, wanted)
    close(whole.logp_NV.exp().sum(-1), torch.ones(V, dtype=z.dtype))
    assert p.logp_NV.min() < math.log(0.05 / V) <= wanted.min()
    topk, ids = p.topk(4)
    told = floored.of(q, Evidence(ACTION, teacher=Recorded(p.logp(ACTION), ids, topk)))
    close(told.logp(ACTION), whole.logp(ACTION))
    close(told.topk(4)[0], whole.gather(ids))
    assert floored.of(q, Evidence(ACTION, teacher=Recorded(p.logp(ACTION)))).topk_ids_NK is None


def test_a_cache_of_all_tokens_is_the_live_teacher():
    z, p = draw(2, n=V)
    logp, ids = p.topk(V)
    gradients = []
    for support, teacher in (
        ("full", p),
        ({"name": "teacher_topk", "k": V, "norm": "raw"}, Recorded(p.logp(ACTION), ids, logp)),
    ):
        x = z.clone().requires_grad_()
        term = stream(signal="rkl", support=support, estimator="exact")
        loss_N, _ = term.loss(Categorical.from_logits(x), Evidence(ACTION, teacher=teacher))
        gradients.append(torch.autograd.grad(loss_N.sum(), x)[0])
    close(*gradients)


def test_offline_nodes_read_no_teacher_and_the_crossed_ones_only_differ_in_theirs(monkeypatch):
    monkeypatch.chdir(ROOT)
    root = load_root(OmegaConf.to_container(OmegaConf.load("config.yaml")) | {"papers": ["lightning"]})
    found = {node.name: node for node in Graph.of(root).nodes.values() if node.kind == "opd" and node.paper == "lightning"}
    offline = [node for node in found.values() if "scores" in node.parents]
    assert len(offline) >= 6 and all(set(node.parents) == {"student", "scores", "data"} for node in offline)
    for name in ("online", "offline"):
        for whose in ("", "second_"):
            one, other = found[f"{whose}{name}"], found[f"{whose}crossed_{name}"]
            alike = {"teacher_consistency": "warn", "teacher": None, "scores": None}
            assert one.options | alike == other.options | alike
            assert {role for role in one.parents if one.parents[role] is not other.parents[role]} <= {"teacher", "scores"}


def test_sequences_that_teachers_read_are_counted_and_offline_there_is_no_teacher_to_ask(tmp_path):
    """Offline as many as there are rows, whatever is trained; online steps times rows."""
    made = Path(shutil.copytree(nodes(), tmp_path / "made"))
    stages, sampling = Stages(made), {"n": 2, "max_new_tokens": 4}
    stages.run("rollouts", "rollout", {"policy": PARENTS["student"], "data": "data/data"}, sampling=sampling)
    scores = stages.run("scores", "score", {"rollouts": "rollout/rollouts", "teacher": PARENTS["teacher"]})
    assert scores["metrics"]["score/sequences"] == 2 * 7 and scores["metrics"]["score/tokens"] > 14
    online = run(tmp_path / "online", parents={"reference": None}, steps=5)
    both = run(tmp_path / "both", steps=5, method={"add": [{"against": "reference", "estimator": "k3"}]})
    assert [m.manifest["metrics"]["teacher/sequences"] for m in (online, both)] == [5 * 6, 2 * 5 * 6]
    shutil.rmtree(made / "p" / PARENTS["teacher"])
    gone = {role: None for role in ("teacher", "reference")} | {"scores": "score/scores"}
    for steps in (3, 6):
        offline = run(tmp_path / f"offline{steps}", parents=gone, made=made, steps=steps, teacher_consistency="warn")
        assert offline.manifest["metrics"]["teacher/sequences"] == 0 and len(curve(offline.metrics, "loss")) == steps


def test_a_teacher_may_answer_at_another_temperature_than_the_rows_were_drawn_at(tmp_path):
    made = Path(shutil.copytree(nodes(), tmp_path / "made"))
    stages = Stages(made)
    cool = {"n": 2, "max_new_tokens": 4, "temperature": 0.5}
    stages.run("rollouts", "rollout", {"policy": PARENTS["student"], "data": "data/data"}, sampling=cool)
    rows, teacher = read_rollouts(made / "p/rollout/rollouts/seed0"), made / "p" / PARENTS["teacher"]
    for name, asked, at in (("as_drawn", {}, 0.5), ("plain", {"temperature": 1.0}, 1.0)):
        stages.run(name, "score", {"rollouts": "rollout/rollouts", "teacher": PARENTS["teacher"]}, **asked)
        q = LMPolicy(load_model(teacher), load_tokenizer(teacher), temperature=at).dist(rows)
        expected = q.chunk(0, len(q)).logp(rows.action_N)
        found = CachedTeacher().dist(with_scores(rows, made / f"p/score/{name}/seed0"))
        close(found.logp(rows.action_N), expected.detach())


def test_both_styles_are_right_and_nothing_else():
    source = Walk(nodes=12, chords=3, train=60, test=10, ood=0)
    rows, turned = source.rows(0)["train"], Backward(source).rows(0)["train"]
    verifier, plain = EitherWay(Verifier()), Verifier()
    for row, other in zip(rows, turned, strict=True):
        assert (other["prompt"], other["answer"], other["corpus"]) == (row["prompt"], row["answer"], row["corpus"][::-1])
        assert verifier.judge([row["solution"], other["solution"]], [row, row]) == [1, 1]
        wrong = Backward(source).wrong_attempt(other, [], rng(0, "wrong"))
        assert verifier.score(wrong, row["answer"]) == verifier.score(wrong[::-1], row["answer"]) == 0
    only = [i for i, row in enumerate(turned) if not plain.score(row["solution"], row["answer"])]
    texts, answers = [row["solution"] for row in turned], [row["answer"] for row in turned]
    assert len(only) > 30
    assert verifier.measure(texts, answers, [1.0] * len(texts)) == {"backward": len(only) / len(texts)}
    assert verifier.measure(["", "zz"], answers[:2], [0.0, 0.0]) == {}
