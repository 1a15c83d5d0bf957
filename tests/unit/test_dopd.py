"""DOPD (arXiv 2606.30626): four regimes that partition the tokens, its loss as the sum of four terms, ablation of tokens, hints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from opd_steps.config import plugs
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.stream import Moment
from opd_steps.tasks.sources.guided import Guided
from opd_steps.tasks.sources.walk import Walk
from tests.unit.test_loop_terms import WINDOW, objective, policies, rows_of

REGIMES = ("LH", "LL", "HT", "HS")
PAPER = OmegaConf.to_container(OmegaConf.load(Path(__file__).parents[2] / "workflow/papers/dopd.yaml"))
BETAS = {"LH": 0.6, "LL": 0.3, "HT": 1.0, "HS": 0.6}
K = 5


def row(n: int) -> Trajectory:
    return Trajectory([[0]], [torch.zeros(n).long()], torch.tensor([0]))


def route(student: list[float], teacher: list[float], regime: str, **options) -> torch.Tensor:
    """1 on the tokens of a regime, from their probabilities under the privileged student and teacher."""
    weight = plugs.load(
        "objectives/weights", {"name": "dual_route", "student": "s", "teacher": "t", "regime": regime, **options}
    )
    found = {"student": torch.tensor(student).log(), "teacher": torch.tensor(teacher).log()}
    mask_N, figures = weight.over_batch(row(len(student)), found, Moment())
    assert figures["share"] == pytest.approx(float(mask_N.mean()))
    return mask_N


@given(st.lists(st.tuples(*[st.floats(1e-6, 1.0)] * 2), min_size=1, max_size=40), st.sampled_from([0.0, 0.05, 0.5]))
def test_the_four_regimes_partition_the_tokens(pairs, outliers):
    student, teacher = zip(*pairs, strict=True)
    masks = torch.stack([route(student, teacher, regime, outliers=outliers) for regime in REGIMES])
    assert masks.sum(0).tolist() == [1.0] * len(pairs) and set(masks.flatten().tolist()) <= {0.0, 1.0}


def test_regimes_by_hand():
    student, teacher = [0.9, 0.1, 0.1, 0.9, 0.2], [0.9, 0.1, 0.9, 0.1, 0.2]
    # gaps 0, 0, ln 9, ln 9, 0, mean .88; masses 1.8, .2, 1, 1, .4, mean .88
    found = {regime: route(student, teacher, regime, outliers=0.0).nonzero()[:, 0].tolist() for regime in REGIMES}
    assert found == {"LH": [0], "LL": [1, 4], "HT": [2], "HS": [3]}


def test_outliers_do_not_raise_the_bar():
    """A gap of ln 1000 among nineteen of ln 2 and ln 4: with it the mean is above ln 4, without it below."""
    student, teacher = [0.2] * 10 + [0.2] * 9 + [0.001], [0.4] * 10 + [0.8] * 9 + [1.0]
    high = lambda outliers: sum(route(student, teacher, regime, outliers=outliers) for regime in ("HT", "HS")).tolist()
    assert high(0.05) == [0.0] * 10 + [1.0] * 10
    extreme = [*student[:-1], 1e-30]
    weight = lambda outliers: route(extreme, teacher, "HT", outliers=outliers).sum()
    assert weight(0.0) == 1 and weight(0.05) == 10


def test_without_privilege_every_token_is_low():
    """Teacher = student in one context: all gaps are 0, and ties go low."""
    same = [0.1, 0.5, 0.9, 0.3]
    assert sum(route(same, same, regime) for regime in ("LH", "LL")).tolist() == [1.0] * 4


def logp(model, rows: Trajectory, i: int) -> torch.Tensor:
    """Log-probs of row i's decisions over the vocabulary, [T, V]."""
    context, tokens = list(rows.contexts[i]), rows.actions[i].tolist()
    return model.model(torch.tensor([context + tokens])).logits[0, len(context) - 1 : -1].log_softmax(-1)


def by_formula(models: dict, rows: Trajectory) -> torch.Tensor:
    """Mean over rows of 1/|y| sum over tokens of the regime's loss (eq. 6 to 10), token by token."""
    with torch.no_grad():
        told, master = ([logp(models[name], rows, i) for i in range(len(rows))] for name in ("reference", "teacher"))
    sampled = lambda of: torch.cat([x.gather(1, a[:, None])[:, 0] for x, a in zip(of, rows.actions, strict=True)])
    log_s, log_t = sampled(told), sampled(master)
    gap = (log_t - log_s).abs()
    bar = gap.sort().values[: -(-len(gap) * 95 // 100)].mean()
    mass, total, n = log_s.exp() + log_t.exp(), 0.0, 0
    seen = set()
    for i in range(len(rows)):
        student = logp(models["student"], rows, i)
        for t in range(len(rows.actions[i])):
            high, sure, by_teacher = gap[n] >= bar, mass[n] >= mass.mean(), log_t[n] >= log_s[n]
            regime = ("HT" if by_teacher else "HS") if high else ("LH" if sure else "LL")
            seen.add(regime)
            q = student[t]
            p = (master if regime in ("LH", "HT") else told)[i][t]
            if regime == "HT":
                m = ((q.exp() + p.exp()) / 2).log()
                loss = ((q.exp() * (q - m)).sum() + (p.exp() * (p - m)).sum()) / 2
            else:
                top = q.topk(K).indices
                q, p = q[top].log_softmax(-1), p[top].log_softmax(-1)
                loss = (q.exp() * (q - p)).sum()
            total, n = total + BETAS[regime] * loss / len(rows.actions[i]), n + 1
    assert seen == {*REGIMES}
    return total / len(rows)


def test_the_papers_method_is_the_formula():
    """The method of the paper file, its privileged views played by two other models: loss and gradient."""
    models = policies()
    rows = rows_of(models["student"], 7, 4)
    method = OmegaConf.to_container(OmegaConf.create({"m": PAPER["nodes"]["dopd"]["method"]}))["m"]
    for term in (method, *method["add"]):
        term["against"] = {"master": "teacher", "told": "reference"}[term["against"]]
        term["weight"][0] |= {"student": "reference", "teacher": "teacher"}
        if term["support"] != "full":
            term["support"] = term["support"] | {"k": K}
    others = {name: models[name] for name in ("teacher", "reference")}
    stats = objective(**method).backward(models["student"], rows, {}, others, 8, Moment(window=WINDOW))
    found = torch.cat([p.grad.flatten() for p in models["student"].model.parameters()])
    models["student"].model.zero_grad(set_to_none=True)
    loss = by_formula(models, rows)
    loss.backward()
    wanted = torch.cat([p.grad.flatten() for p in models["student"].model.parameters()])
    assert stats["loss"] == pytest.approx(float(loss.detach()), rel=1e-4)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-6)
    shares = [stats[f"{prefix}share"] for prefix in ("", "add0_", "add1_", "add2_")]
    assert sum(shares) == pytest.approx(1) and min(shares) > 0


def test_dropped_tokens_are_those_of_highest_or_lowest_gap():
    found = {"gap": torch.tensor([0.5, 2.0, 0.1, 1.0, 0.2])}
    drop = lambda **options: plugs.load("objectives/weights", {"name": "gap_drop", "first": "t", "second": "s", **options})
    of = lambda **options: drop(**options).over_batch(row(5), found, Moment())[0].tolist()
    assert of(share=0.2) == [1, 0, 1, 1, 1]
    assert of(share=0.4, drop="lowest") == [1, 1, 0, 1, 0]


WALK = Walk(nodes=12, chords=2, starts=3, train=120, test=20, ood=5)


def test_hints_are_landmarks_and_hold_no_answer():
    plain, found = WALK.rows(0), Guided(WALK, stride=3).rows(0)
    for split, rows in found.items():
        for before, now in zip(plain[split], rows, strict=True):
            hint, walk = now["meta"]["hint"], now["solution"]
            assert hint == "".join(walk[i] for i in range(2, len(walk) - 1, 3)) and len(hint) <= len(walk) // 3
            assert {key: now[key] for key in ("prompt", "answer", "solution")} == {
                key: before[key] for key in ("prompt", "answer", "solution")
            }


def test_the_corpus_shows_hints_and_answers_at_their_shares():
    found = Guided(WALK, hints=0.3, answers=0.5).rows(0)
    shown = [row["hints"]["right"][0] if "hints" in row else None for row in found["train"]]
    answers = sum(text == row["solution"] for text, row in zip(shown, found["train"], strict=True))
    assert 0.35 < answers / 120 < 0.65 and 0.1 < sum(text is None for text in shown) / 120 < 0.3
    assert all(row["corpus"] == row["solution"] for row in found["train"] if "hints" in row)
    clean = Guided(WALK, hints=0.3, answers=0.5, clean=True).rows(0)
    assert all(row["corpus"] == row["solution"] for row in clean["train"])
    assert [row["prompt"] for row in clean["train"]] == [row["prompt"] for row in found["train"]]
    assert any(row["corpus"] != row["solution"] for row in found["train"])
    assert not any("hints" in row for split in ("test", "ood") for row in found[split])


def test_half_of_the_lines():
    guided = Guided(WALK, hint="lines")
    assert guided._hint({"solution": "a\nb\nc\nd\ne"}) == "a\nb"
