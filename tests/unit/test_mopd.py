"""MOPD (arXiv 2606.30406): its loss and IcePop mask under injected mismatch, corrected top-k, domains, teachers' texts, merging."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from opd_steps.errors import UserError
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.nouns.dist import Categorical
from opd_steps.nouns.draw import Draw
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.estimators.exact import Exact
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.signals.rkl import ReverseKL
from opd_steps.objectives.signals.rkl_corrected import CorrectedReverseKL
from opd_steps.objectives.stream import Moment
from opd_steps.objectives.supports.full import Full
from opd_steps.objectives.supports.teacher_topk import TeacherTopk
from opd_steps.prefixes.routed import Routed
from opd_steps.steps.merge import run as merge
from opd_steps.store.artifacts import Job, read_manifest
from opd_steps.tasks.sources.domains import Domains
from opd_steps.tasks.sources.walk import Walk
from opd_steps.tasks.verifiers.walk import Walk as Verifier
from tests.unit import opd_toys
from tests.unit.objectives_toys import close, draw, gradient
from tests.unit.test_loop_terms import SEEDS, WINDOW, objective, policies
from tests.unit.test_routed import Domains as Pool
from tests.unit.tiny import FakeTokenizer, qwen
from tests.unit.toy_rows import VOCAB

PAPER = OmegaConf.to_container(OmegaConf.load(Path(__file__).parents[2] / "workflow/papers/mopd.yaml"))
METHOD = PAPER["nodes"]["mopd"]["method"] | {"against": "teacher"}
LOW, HIGH = (METHOD["estimator"][key] for key in ("mask_low", "mask_high"))
ALPHA = METHOD["transform"][0]["coef"]


def rows_at(temperature: float) -> Trajectory:
    """The student's rows, sampled at a temperature and recorded as if at 1: the log-probs are those of what was drawn from."""
    model = qwen(VOCAB, SEEDS["student"], layers=1)
    policy = LMPolicy(model, FakeTokenizer(VOCAB), temperature=temperature, max_new_tokens=WINDOW)
    picks = [i for i in range(7) for _ in range(4)]
    return policy.rollout(Pool().contexts(picks), picks, list(range(len(picks))), 0)


def by_formula(models: dict, rows: Trajectory, outcome_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(- mean over rows of 1/|y| sum w A log q, eq. 7 to 9, row by row; whether each token is outside the mask)."""
    total, outside = 0.0, []
    for i in range(len(rows)):
        context, action = list(rows.contexts[i]), rows.actions[i]
        logp = lambda name, c=context, a=action: (
            models[name]
            .model(torch.tensor([c + a.tolist()]))
            .logits[0, len(c) - 1 : -1]
            .log_softmax(-1)
            .gather(1, a[:, None])[:, 0]
        )
        log_q = logp("student")
        ratio = (log_q.detach() - rows.logp[i]).exp()
        keep = (ratio >= LOW) & (ratio <= HIGH)
        advantage = logp("teacher").detach() - log_q.detach() + ALPHA * outcome_B[i]
        total = total - (torch.where(keep, ratio, 0.0) * advantage * log_q).mean() / len(rows)
        outside.append(~keep)
    return total, torch.cat(outside)


def flat(model) -> torch.Tensor:
    found = torch.cat([p.grad.flatten() for p in model.parameters()])
    model.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize("temperature", [1.0, 2.0, 0.5])
def test_the_papers_loss_under_injected_mismatch(temperature):
    """Gradient of the formula; the mask hits exactly the tokens outside, none where both engines are one."""
    models, rows = policies(), rows_at(temperature)
    outcome_B = torch.linspace(-1, 1, len(rows))
    stats = objective(**METHOD).backward(
        models["student"], rows, {"outcome": outcome_B}, {"teacher": models["teacher"]}, 5, Moment(window=WINDOW)
    )
    found = flat(models["student"].model)
    loss, outside_N = by_formula(models, rows, outcome_B)
    loss.backward()
    torch.testing.assert_close(found, flat(models["student"].model), rtol=1e-3, atol=1e-6)
    assert stats["clipped"] == pytest.approx(float(outside_N.float().mean()))
    if temperature == 1:
        assert stats["clipped"] == 0 and stats["ratio"] == pytest.approx(1, abs=1e-5)
    else:
        assert 0 < stats["clipped"] < 1


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_a_masked_token_has_no_gradient_and_others_their_whole_one(temperature):
    """One token at a time, in fp64: the gradient on logits is - w A score inside, exactly 0 outside."""
    z, teacher = draw(3, n=60)
    action_N = torch.arange(60) % 12
    sampler_N = Categorical.from_logits(z / temperature).logp(action_N)
    outcome_N = torch.linspace(-1, 1, 60, dtype=torch.float64)
    x = z.clone().requires_grad_()
    q = Categorical.from_logits(x)
    evidence = Evidence(action_N, sampler_logp_N=sampler_N, outcome_N=outcome_N, others={"teacher": teacher})
    (stream,) = objective(**METHOD).streams
    loss_N, _ = stream.loss(q, stream.view(evidence))
    found = torch.autograd.grad(loss_N.sum(), x)[0]
    log_q = Categorical.from_logits(z).logp(action_N)
    w = (log_q - sampler_N).exp()
    inside = (w >= LOW) & (w <= HIGH)
    advantage = teacher.logp(action_N) - log_q + ALPHA * outcome_N
    score = torch.nn.functional.one_hot(action_N, 12) - z.softmax(-1)
    assert (found[~inside] == 0).all()
    close(found[inside], -(w * advantage)[inside][:, None] * score[inside])
    assert bool(inside.all()) == (temperature == 1)


def test_a_student_that_is_its_teacher_has_nothing_to_learn():
    """NeMo's smoke test: without an outcome A = 0, so loss and gradient are exactly 0."""
    models, rows = policies(), rows_at(1.0)
    twin = LMPolicy(qwen(VOCAB, SEEDS["student"], layers=1).requires_grad_(False), FakeTokenizer(VOCAB))
    stats = objective(**METHOD | {"transform": []}).backward(
        models["student"], rows, {}, {"teacher": twin}, 64, Moment(window=WINDOW)
    )
    assert stats["loss"] == 0 and flat(models["student"].model).abs().max() == 0


def test_corrected_top_k_is_stationary_at_the_teacher_and_the_plain_sum_is_not():
    z, _ = draw(0, n=5)
    same, top = Categorical.from_logits(z), TeacherTopk(4)
    close(gradient(z, same, Exact(), top, CorrectedReverseKL()), torch.zeros_like(z))
    assert gradient(z, same, Exact(), top, ReverseKL()).abs().max() > 0.01
    z, p = draw(1, n=5)
    close(gradient(z, p, Exact(), Full(), CorrectedReverseKL()), gradient(z, p, Exact(), Full(), ReverseKL()))


def test_corrected_top_k_by_hand_and_never_negative():
    z, p = draw(2, n=50)
    q = Categorical.from_logits(z)
    ids = p.logp_NV.topk(3).indices
    s, t = q.logp_NV.gather(1, ids).exp(), p.logp_NV.gather(1, ids).exp()
    found = TeacherTopk(3).select(q, p).total(CorrectedReverseKL().term)
    close(found, (s * (s / t).log() - s + t).sum(1))
    assert (found > 0).all() and (TeacherTopk(3).select(q, p).total(ReverseKL().term) < 0).any()


TOWN = Walk(nodes=12, chords=2, starts=3, train=60, test=20, ood=5)
CITY = Walk(nodes=14, chords=3, starts=3, graph=1, train=50, test=15, ood=5)


def test_domains_stand_in_a_column_and_are_measured_apart():
    found = Domains(TOWN, CITY, ["town", "city"], capitals=True).rows(0)
    domain = lambda split: [row["meta"]["domain"] for row in found[split]]
    assert domain("test") == ["town"] * 20 and domain("ood") == ["city"] * 15
    assert sorted(domain("train")) == ["city"] * 50 + ["town"] * 60 != domain("train")
    for row in (row for rows in found.values() for row in rows):
        large = row["meta"]["domain"] == "city"
        assert row["prompt"].isupper() == large and row["answer"].isupper() == large
        assert Verifier().score(row["solution"], row["answer"]) == 1
    assert len({row["id"] for rows in found.values() for row in rows}) == 145
    only = Domains(TOWN, CITY, ["town", "city"], only="other", capitals=True).rows(0)
    assert {row["meta"]["domain"] for row in only["train"]} == {"city"}
    assert [only["test"], only["ood"]] == [found["test"], found["ood"]]


def draw_of(teachers: dict, picks: list[int]) -> Draw:
    return Draw(1, 0, picks, 3, 7, None, teachers, Pool(), None)


def test_each_teacher_writes_for_the_prompts_of_its_domain():
    models = policies()
    teachers = {"a": models["teacher"], "b": models["reference"]}
    rows = Routed(to={"odd": "a", "even": "b"}).rows(draw_of(teachers, [4, 1, 2, 3])).rows
    assert rows.prompt_B.tolist() == [1] * 3 + [3] * 3 + [4] * 3 + [2] * 3
    for name, mine in (("a", range(6)), ("b", range(6, 12))):
        part = rows.rows(list(mine))
        dist = teachers[name].dist(part, name).chunk(0, len(part.action_N))
        torch.testing.assert_close(part.logp_N, dist.logp(part.action_N), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="whose domain is 'odd'; named are even"):
        Routed(to={"even": "b"}).rows(draw_of(teachers, [1]))


def test_merged_weights_are_the_mean(tmp_path):
    (tmp_path / "p").mkdir()
    for kind in (opd_toys.nodes() / "p").iterdir():
        (tmp_path / "p" / kind.name).symlink_to(kind)
    names = ("student/seed0", "teacher/seed1", "reference/seed2")
    read = lambda folder: load_file(tmp_path / "p" / folder / "model/model.safetensors")
    each = [read(f"model/{name}") for name in names]

    def merged(of, shares=()) -> tuple[dict, float]:
        name = f"merged{len(list((tmp_path / 'p').glob('merge/*')))}"
        roles = {f"models.{i}": f"p/model/{n}" for i, n in enumerate(of)}
        config = {"kind": "merge", "options": {"models": [None] * len(of), "shares": shares}, "parents": roles, "seed": 0}
        with Job(config, {}, tmp_path / f"p/merge/{name}/seed0/manifest.json", {}) as job:
            merge(job)
        return read(f"merge/{name}/seed0"), read_manifest(tmp_path / f"p/merge/{name}/seed0")["metrics"]["merge/spread"]

    for name, value in merged(names)[0].items():
        torch.testing.assert_close(value, sum(x[name] for x in each) / 3, rtol=1e-6, atol=1e-8)
    apart, spread = merged(names[:2], shares=[1.0, 3.0])
    for name, value in apart.items():
        torch.testing.assert_close(value, (each[0][name] + 3 * each[1][name]) / 4, rtol=1e-6, atol=1e-8)
    far = lambda theta: sum(float((theta[name].double() - value).square().sum()) for name, value in apart.items())
    length = sum(float(value.double().square().sum()) for value in apart.values())
    assert spread == pytest.approx(((far(each[0]) + 3 * far(each[1])) / 4 / length) ** 0.5, rel=1e-5)
    same, spread = merged([names[0]] * 2)
    assert spread < 1e-6 and all(torch.equal(same[name], value) for name, value in each[0].items())
    with pytest.raises(UserError, match="other names or shapes"):
        merged(["student/seed0", "wide/seed4"])
