"""A model as its own teacher with more in view: each contract's loss in closed form, written out after the released code, and contexts.

OPSD (arXiv 2601.18734), SDPO (2601.20802), SDFT (2601.19897); on the production objective, rows and reading of options.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from opd_steps.config.asks import Asks
from opd_steps.config.merge import merge
from opd_steps.config.needs import asks
from opd_steps.graph.method import Method
from opd_steps.loop.objective import Objective
from opd_steps.nouns.dist import Categorical
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.signals.capped import Capped
from opd_steps.objectives.signals.jsd import JSD
from opd_steps.objectives.stream import Moment
from opd_steps.objectives.targets.trust_region import TrustRegion
from opd_steps.objectives.where.after_first import AfterFirst
from opd_steps.teachers.contexts.other_demo import OtherDemo
from opd_steps.teachers.contexts.retrospect import Retrospect
from tests.unit.objectives_toys import close, draw
from tests.unit.test_loop_terms import WINDOW, policies, rows_of

MODELS = policies()
ROWS = rows_of(MODELS["student"], 4, 2)
OPSD = {"signal": {"name": "jsd", "beta": 0.5}, "support": "full", "estimator": "exact"}
TOPK = {"name": "teacher_topk", "k": 5, "norm": "renormalise"}
SDPO = {**OPSD, "support": {"name": "student_topk", "k": 5, "norm": "tail"}, "weight": [{"name": "importance", "cap": 2.0}]}
SDFT = {"signal": "rkl", "support": "full", "estimator": "exact"}


def in_view(rows: Trajectory, told: list[bool]) -> Trajectory:
    """The teacher sees two more tokens in front of some rows."""
    shown = [[3, 4, *context] if more else list(context) for context, more in zip(rows.contexts, told, strict=True)]
    return rows.with_columns(extra={**rows.extra, "context:teacher": shown})


ALL, SOME = (in_view(ROWS, [bool(i % 3 != 1) or every for i in range(len(ROWS))]) for every in (True, False))


def flat() -> torch.Tensor:
    """The student's gradient, taken off it."""
    found = torch.cat([p.grad.flatten().clone() for p in MODELS["student"].model.parameters()])
    MODELS["student"].model.zero_grad(set_to_none=True)
    return found


def by_hand(loss: torch.Tensor) -> torch.Tensor:
    loss.backward(retain_graph=True)
    return flat()


def production(rows: Trajectory, micro_batch: int = 3, **method) -> torch.Tensor:
    term = Objective.from_method(merge(Method, method, "test"), WINDOW)
    term.backward(MODELS["student"], rows, {}, {"teacher": MODELS["teacher"]}, micro_batch, Moment(window=WINDOW))
    return flat()


def both(rows: Trajectory) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs of student and told teacher, [N, V]."""
    q, p = (MODELS[role].dist(rows, role).chunk(0, len(rows.action_N)).logp_NV for role in ("student", "teacher"))
    return q, p.detach()


def jsd(q: torch.Tensor, p: torch.Tensor, beta: float) -> torch.Tensor:
    """As the released trainers write it, [N, K]."""
    if beta == 1:
        return F.kl_div(p, q, reduction="none", log_target=True)
    m = torch.logsumexp(torch.stack([q + torch.tensor(1 - beta).log(), p + torch.tensor(beta).log()]), 0)
    kl_p, kl_q = (F.kl_div(m, x, reduction="none", log_target=True) for x in (p, q))
    return beta * kl_p + (1 - beta) * kl_q


def test_the_teacher_sees_more_and_the_student_does_not():
    plain, told = both(ROWS)[1], both(ALL)[1]
    assert (plain - told).abs().max() > 1e-2 and torch.equal(both(ROWS)[0], both(ALL)[0])


def test_opsd():
    q, p = both(ALL)
    expected = by_hand(jsd(q, p, 0.5).sum() / len(q))  # "batchmean": over all tokens of the batch
    close(production(ALL, **OPSD), expected, 1e-6)


def test_opsd_on_the_teachers_likeliest():
    q, p = both(ALL)
    at = p.topk(5, -1).indices
    q, p = (x.gather(-1, at).log_softmax(-1) for x in (q, p))
    expected = by_hand(jsd(q, p, 0.5).sum() / len(q))
    close(production(ALL, **OPSD | {"support": TOPK}), expected, 1e-6)


def test_opsd_of_the_sampled_token():
    q, p = both(ALL)
    q, p = (x.gather(-1, ALL.action_N[:, None])[:, 0] for x in (q, p))
    expected = by_hand((-(p - q).detach() * q).mean())
    close(production(ALL), expected, 1e-6)


def test_opsd_with_each_summand_clipped():
    q, p = both(ALL)
    terms, cap = jsd(q, p, 0.5), 0.003
    assert 0.005 < float((terms > cap).float().mean()) < 0.9
    expected = by_hand(terms.clamp(max=cap).sum() / len(q))
    close(production(ALL, **OPSD | {"signal": {"name": "capped", "of": "jsd", "cap": cap}}), expected, 1e-6)
    assert (expected - production(ALL, **OPSD)).abs().max() > 1e-4
    close(production(ALL, **OPSD | {"signal": {"name": "capped", "of": "jsd", "cap": 9.0}}), production(ALL, **OPSD))


@pytest.mark.parametrize("beta", [0.3, 0.5])
def test_the_reward_of_a_clipped_divergence_is_minus_its_slope(beta):
    """By the student's probability, up to a constant where nothing is clipped."""
    z, p = draw(3)
    q = z.softmax(-1).requires_grad_()
    signal = Capped(JSD(beta), 0.02)
    (slope,) = torch.autograd.grad(signal.term(q.log(), p.logp_NV).sum(), q)
    found, free = signal.reward(q.log(), p.logp_NV), signal.of.term(q.log(), p.logp_NV) < 0.02
    assert free.any() and (~free).any()
    assert (found[~free] == 0).all() and (slope[~free] == 0).all()
    close(found[free] + slope[free], torch.zeros(int(free.sum()), dtype=torch.float64))


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_sdpo(beta):
    """Top k of the student with a tail, min(ratio, 2), mean over the tokens of rows that have something to show."""
    rows = SOME.with_columns(logp=[x - 0.5 for x in ROWS.logp])  # a stale sampler: ratios of about 1.6, some above 2
    rows.logp[0] -= 1.0
    q, p = both(rows)
    at = q.topk(5, -1).indices
    ratio = (q.gather(-1, rows.action_N[:, None])[:, 0] - torch.cat(rows.logp)).exp().detach()
    assert (ratio > 2).any() and (ratio < 2).any()

    def with_tail(x: torch.Tensor) -> torch.Tensor:
        rest = x.logsumexp(-1, keepdim=True).clamp(max=-1e-7)
        return torch.cat([x, (-torch.expm1(rest)).log()], -1)

    each = jsd(*(with_tail(x.gather(-1, at)) for x in (q, p)), beta).sum(-1) * ratio.clamp(max=2.0)
    mask = rows.has_context_B("teacher").float()[rows.owner_N]
    assert 0 < float(mask.mean()) < 1
    found, signal = by_hand((each * mask).sum() / mask.sum()), {"name": "jsd", "beta": beta}
    close(production(rows, **SDPO | {"where": ["told"], "signal": signal}), found, 1e-6)
    weighed = production(rows, **SDPO | {"signal": signal, "weight": [*SDPO["weight"], "has_context"]})
    close(weighed, found * float(mask.mean()), 1e-6)  # the others in the denominator


def test_where_nobody_has_anything_to_show_there_is_no_gradient():
    assert production(ROWS, **SDPO, where=["told"]).abs().max() == 0


def test_sdft():
    q, p = both(ALL)
    each = F.kl_div(p, q, reduction="none", log_target=True).sum(-1)  # KL(student || teacher)
    late = torch.cat([torch.arange(n) >= 2 for n in ALL.length_B.tolist()])
    assert 0 < float(late.float().mean()) < 1
    whole, masked = by_hand(each.mean()), by_hand(each[late].mean())
    close(production(ALL, **SDFT), whole, 1e-6)
    close(production(ALL, **SDFT, where=[{"name": "after_first", "skip": 2}]), masked, 1e-6)
    assert torch.equal(AfterFirst(2).over_batch(ALL, {}, Moment())[0], late)


@pytest.mark.parametrize("method", [OPSD, OPSD | {"support": TOPK}, SDPO, SDFT, {}])
def test_identical_contexts_and_weights_leave_nothing_to_learn(method):
    term = Objective.from_method(merge(Method, method, "test"), WINDOW)
    term.backward(MODELS["student"], ROWS, {}, {"teacher": MODELS["student"]}, 3, Moment(window=WINDOW))
    assert flat().abs().max() < 1e-6


@pytest.mark.parametrize("mix", [0.0, 0.05, 0.6, 1.0])
def test_a_trust_region_is_between_the_logits_of_start_and_student(mix):
    (z_now, _), (z_start, _) = draw(1, n=4), draw(2, n=4)
    evidence = Evidence(
        torch.zeros(4).long(), teacher=Categorical.from_logits(z_now), others={"begun": Categorical.from_logits(z_start + 3.0)}
    )
    found = TrustRegion("begun", mix).of(Categorical.from_logits(z_now), evidence)
    close(found.logp_NV, torch.lerp(z_start, z_now, mix).log_softmax(-1))


def test_a_trust_region_asks_both_for_everything():
    found = asks(merge(Method, {**OPSD, "target": {"name": "trust_region", "start": "begun"}, "against": "now"}, "test"))
    assert found == {"now": Asks(full=True), "begun": Asks(full=True)}


@dataclass
class Shown:
    """A pool whose hints are written out; a text is right when it starts with an r."""

    texts: list[str]
    rows: list[dict] = field(default_factory=lambda: [{"answer": "x", "solution": "s0"}, {"answer": "y", "solution": "s1"}])
    task: SimpleNamespace = field(
        default_factory=lambda: SimpleNamespace(
            verifier=SimpleNamespace(SPEAKS=True, feedback=lambda text, answer: f"{text} is not {answer}")
        )
    )

    def show(self, rows: Trajectory) -> list[str]:
        return self.texts

    def hinted(self, index: int, right=(), wrong=(), note: str = "") -> str:
        return f"{index}|{','.join(right)}|{note}"


def shown(texts: list[str], prompts: list[int], **options) -> list[str]:
    rows = Trajectory([[0]] * len(texts), [torch.tensor([1])] * len(texts), torch.tensor(prompts))
    rows = rows.with_columns(reward_B=torch.tensor([float(text.rpartition(">")[2].startswith("r")) for text in texts]))
    return Retrospect(**options).prepare(rows, Shown(texts), 0, "told").extra["context:told"]


TEXTS, PROMPTS = ["r1", "w1", "<think>r? no</think>r2", "w2", "r3", "w3"], [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("feedback", "expected"),
    [
        ("without_success", ["0|r2|", "0|r1|", "0|r1|", "1|r3|", "1||", "1|r3|"]),
        ("never", ["0|r2|", "0|r1|", "0|r1|", "1|r3|", "1||", "1|r3|"]),
        ("always", ["0|r2|", "0|r1|w1 is not x", "0|r1|", "1|r3|w2 is not y", "1||", "1|r3|w3 is not y"]),
        ("alone", ["0||", "0||w1 is not x", "0||", "1||w2 is not y", "1||", "1||w3 is not y"]),
    ],
)
def test_a_sample_is_shown_another_that_was_right_or_else_what_was_wrong_with_it(feedback, expected):
    assert shown(TEXTS, PROMPTS, feedback=feedback) == expected


def test_feedback_stands_in_where_no_sample_was_right():
    assert shown(["w1", "w2"], [1, 1]) == ["1||w1 is not y", "1||w2 is not y"]
    assert shown(["w1", "w2"], [1, 1], feedback="never") == ["1||", "1||"]


def test_the_control_shows_the_solution_of_another_prompt():
    rows = Trajectory([[0]] * 2, [torch.tensor([1])] * 2, torch.tensor([0, 1]))
    assert OtherDemo().prepare(rows, Shown([]), 0, "t").extra["context:t"] == ["0|s1|", "1|s0|"]
