"""Analyses of samples on bigram policies: against hand-worked cases and plain loops."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import spearmanr

from opd_steps.analyses._continue import continued
from opd_steps.analyses.alignment import Alignment, align
from opd_steps.analyses.forgetting import Forgetting
from opd_steps.analyses.overlap import Overlap
from opd_steps.analyses.perplexity import Perplexity
from opd_steps.analyses.position_signal import PositionSignal
from opd_steps.analyses.prefix_distortion import PrefixDistortion, slope
from opd_steps.analyses.ranking import Ranking, rank
from opd_steps.config import plug_schema, plugs
from opd_steps.config.merge import merge
from opd_steps.errors import UserError
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.seeds import derive
from tests.unit.analysis_toys import Bigram, Prompts, context, path, random_bigram, states
from tests.unit.tiny import FakeTokenizer, qwen

POOL = Prompts(12, lambda i, tokens: float(sum(tokens) % 2), token=lambda i: i % 6, vocab=8)


def table_kl(a: Bigram, b: Bigram) -> torch.Tensor:
    """KL(a || b) in every state, [V], by a plain loop."""
    a_VV, b_VV = a.logits_VV.softmax(-1), b.logits_VV.softmax(-1)
    return torch.tensor([sum(x * math.log(x / y) for x, y in zip(p, q, strict=True)) for p, q in zip(a_VV, b_VV, strict=True)])


@pytest.mark.parametrize("name", plug_schema.names("analyses"))
def test_every_analysis_declares_its_roles_and_metrics(name):
    needs, metrics = (plugs.constant("analyses", name, c) for c in ("NEEDS", "METRICS"))
    assert set(needs) <= {"other", "peer", "teacher", "data", "answers", "methods"} and len(set(metrics)) == len(metrics) > 0
    of_texts = "answers" in needs or name in (
        "tutoring",
        "kept",
    )  # these prompts have none: test_ropd, test_opcod, test_analyze
    if "data" in needs and "methods" not in needs and not of_texts:  # those that take gradients: test_gradient_variance
        ctx = context(POOL, **{role: random_bigram(i) for i, role in enumerate(("model", *(r for r in needs if r != "data")))})
        schema = plug_schema.schema("analyses", name)
        shown = {"context": "plain"} if "context" in schema.__dataclass_fields__ else {}  # these prompts are no talks
        found = plugs.load("analyses", merge(schema, {"name": name, **shown}, "test")).measure(ctx)
        assert found.keys() == set(metrics)


def test_forgetting_is_the_kl_of_the_visited_states():
    model, other = random_bigram(1), random_bigram(2)
    ctx = context(POOL, model=model, other=other)
    found = Forgetting().measure(ctx)
    for sampler in ("model", "other"):
        at = states(ctx.rollouts(sampler))
        assert found[f"forgetting/reverse_on_{sampler}"] == pytest.approx(float(table_kl(model, other)[at].mean()))
        assert found[f"forgetting/forward_on_{sampler}"] == pytest.approx(float(table_kl(other, model)[at].mean()))
    swapped = Forgetting().measure(context(POOL, model=other, other=model))
    assert swapped["forgetting/symmetric"] == pytest.approx(found["forgetting/symmetric"]) and found["forgetting/symmetric"] > 0
    assert set(Forgetting().measure(context(POOL, model=model, other=model)).values()) == {0.0}


def test_perplexity_is_that_of_the_texts_tokens():
    """Each of the texts is one token and the end."""
    model = random_bigram(1)
    rows = POOL.written("solution")
    logp_VV, states_N = model.logits_VV.log_softmax(-1), states(rows)
    nll = -sum(float(logp_VV[a, b]) for a, b in zip(states_N, rows.action_N, strict=True)) / len(states_N)
    found = Perplexity().measure(context(POOL, model=model))
    assert found == pytest.approx({"text/nll": nll, "text/perplexity": math.exp(nll)})


def test_overlap_by_quarter():
    """Eight tokens, two a quarter; the teacher thinks of another token than the model at the last three states."""
    model, teacher = path([0, 1, 2, 3, 4, 5, 6, 7], 12), path([0, 1, 2, 3, 4, 5, 6, 7], 12)
    teacher.logits_VV[[5, 6, 7]] = path([0, 9, 9, 9], 12).logits_VV[0]
    found = Overlap(k=1).measure(context(Prompts(5, lambda i, tokens: 1.0), model=model, teacher=teacher))
    assert [found[f"overlap/ratio_q{i}"] for i in (1, 2, 3, 4)] == [1.0, 1.0, 0.5, 0.0] and found["overlap/ratio"] == 5 / 8


def test_overlap():
    model = random_bigram(1)
    same = Overlap(k=3).measure(context(POOL, model=model, teacher=model))
    assert same["overlap/ratio"] == 1 and same["overlap/teacher_mass"] == pytest.approx(same["overlap/model_mass"])
    p, q = torch.tensor([0.5, 0.3, 0.1, 0.1]), torch.tensor([0.35, 0.05, 0.5, 0.1])  # top 2: {0, 1} and {2, 0}
    model, teacher = (Bigram(x.log().repeat(4, 1)) for x in (p, q))
    found = Overlap(k=2).measure(context(Prompts(9, POOL.reward), model=model, teacher=teacher))
    assert [found[f"overlap/{n}"] for n in ("ratio", "teacher_mass", "model_mass")] == pytest.approx([0.5, 0.4, 0.6])
    with pytest.raises(UserError, match=r"analyze.analysis.k: asks for the likeliest 9 tokens, the vocabulary has 8"):
        Overlap(k=9).measure(context(POOL, model=random_bigram(1), teacher=random_bigram(2)))


def test_prefixes_mislead_the_teacher():
    # The model says 1 2 9 4 5 6 7 END, the teacher the same but 3 for 9 and 4 again after 9: right means no 9.
    model, teacher = path([0, 1, 2, 9, 4, 5, 6, 7], 12), path([0, 1, 2, 3, 4, 5, 6, 7], 12)
    teacher.logits_VV[9, 4] = 50.0
    pool = Prompts(5, lambda i, tokens: float(tokens[-1] == 11 and 9 not in tokens))
    found = PrefixDistortion().measure(context(pool, model=model, teacher=teacher))
    at = [found[f"distortion/accuracy_at_{f}"] for f in (0, 25, 50, 75)]
    assert at == [1, 1, 0, 0]  # of 8 tokens, the third is wrong: cuts after 2 and 4
    assert found["distortion/model_accuracy"] == 0 and found["distortion/slope"] == pytest.approx(-1.6)
    assert [found[f"distortion/wrong_at_{f}"] for f in (0, 25, 50, 75)] == at
    assert found["distortion/right_at_50"] is None  # the model is never right
    assert slope([0.1, 0.35, 0.6, 0.85]) == pytest.approx(1)


def test_prefixes_of_right_and_of_wrong_answers_apart():
    # Two prompts of six ask for no 9, the others for one, as the model says it: there it is right, and so is where it leads.
    model, teacher = path([0, 1, 2, 9, 4, 5, 6, 7], 12), path([0, 1, 2, 3, 4, 5, 6, 7], 12)
    teacher.logits_VV[9, 4] = 50.0
    pool = Prompts(6, lambda i, tokens: float((9 in tokens) == bool(i % 3)))
    found = PrefixDistortion().measure(context(pool, model=model, teacher=teacher))
    assert found["distortion/model_accuracy"] == pytest.approx(4 / 6)
    assert [found[f"distortion/right_at_{f}"] for f in (0, 25, 50, 75)] == [0, 0, 1, 1]
    assert [found[f"distortion/wrong_at_{f}"] for f in (0, 25, 50, 75)] == [1, 1, 0, 0]
    both = [4 / 6 * r + 2 / 6 * w for r, w in zip([0, 0, 1, 1], [1, 1, 0, 0], strict=True)]
    assert [found[f"distortion/accuracy_at_{f}"] for f in (0, 25, 50, 75)] == pytest.approx(both)


def test_at_fraction_zero_the_teacher_is_alone():
    model, teacher = random_bigram(1), random_bigram(2)
    found = PrefixDistortion(n=2).measure(context(POOL, 7, model=model, teacher=teacher))
    seeds = [derive(7, "continue", p, i) for p in range(12) for i in range(2)]
    alone = teacher.rollout([[p % 6] for p in range(12) for _ in range(2)], [p for p in range(12) for _ in range(2)], seeds)
    expected = POOL.rewards(alone)
    assert found["distortion/accuracy_at_0"] == sum(expected) / 24 and 0 < sum(expected) < 24


def test_a_greedy_policy_continues_itself_to_the_same_response():
    policy = LMPolicy(qwen(), FakeTokenizer(24), temperature=0.0, max_new_tokens=9)
    contexts = [[1, 2], [3], [4, 5, 6], [7, 8]]
    whole = policy.rollout(contexts, range(4), range(4)).actions
    for cut in (0, 3, 9):
        prefixes = [a[:cut] for a in whole]
        done = continued(policy, contexts, prefixes, [0, 1, 2, 3], [0, 0, 0, 0])
        assert [a.tolist() for a in done.actions] == [a.tolist() for a in whole]
    ended = continued(policy, contexts[:1], [torch.tensor([5, 23])], [0], [0])
    assert ended.actions[0].tolist() == [5, 23]


def test_signal_by_quarter():
    # 8 decisions, state i at decision i; from state 2 on the teacher is unsure.
    model = path([0, 1, 2, 3, 4, 5, 6, 7], 10)
    teacher = Bigram(model.logits_VV * torch.tensor([1.0] * 2 + [0.04] * 6 + [1.0] * 2)[:, None])
    ctx = context(Prompts(3, lambda i, _: float(i == 0)), model=model, teacher=teacher)
    found = PositionSignal(k=3).measure(ctx)
    wide = math.log(math.exp(2) + 9) - 2  # -log p of the next token in the late states
    for name in ("log_ratio", "reverse_kl"):
        assert [found[f"signal/{name}_q{i}"] for i in (1, 2, 3, 4)] == pytest.approx([0, wide, wide, wide], abs=1e-6)
    for group in ("correct", "wrong"):
        assert [found[f"signal/margin_{group}_q{i}"] for i in (1, 2, 3, 4)] == pytest.approx([50, 2, 2, 2], abs=1e-4)
    assert found["signal/released_correct"] == found["signal/released_wrong"] == 1
    steady = PositionSignal(k=3).measure(context(ctx.pool, model=model, teacher=Bigram(model.logits_VV * 0.04)))
    assert steady["signal/released_correct"] == steady["signal/released_wrong"] == 0
    blocks = PositionSignal(k=3, block=4).measure(ctx)
    assert blocks["signal/released_wrong"] == 0  # two blocks are too few


def test_the_teachers_second_choice_counts_only_among_the_models():
    p = torch.tensor([0.4, 0.3, 0.2, 0.1])
    q = torch.tensor([0.5, 0.1, 0.3, 0.1])  # top 2: {0, 2}
    model, teacher = (Bigram(x.log().repeat(4, 1), max_new_tokens=1) for x in (q, p))
    found = PositionSignal(k=2).measure(context(Prompts(4, lambda *_: 1.0), model=model, teacher=teacher))
    assert found["signal/margin_correct_q1"] == pytest.approx(math.log(2))
    assert found["signal/margin_wrong_q1"] is None and found["signal/margin_correct_q2"] is None


def test_ranking_by_hand():
    score = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [5.0, 6.0, 7.0], [0.0, 0.0, 1.0]])
    right = torch.tensor([[True, False, False], [False, True, True], [True, True, True], [True, False, True]])
    found = rank(score, right)  # pairs: 2 inverted of 2; 0 of 2; none; 0 of 2 (a tie is no inversion)
    assert found["ranking/inverted_pairs"] == pytest.approx(2 / 6)
    assert found["ranking/violating_prompts"] == pytest.approx(1 / 3) and found["ranking/mixed_prompts"] == 0.75
    assert found["ranking/gap"] == pytest.approx((-1.5 + 1.5 + 0.5) / 3)
    silent = rank(score[:1], torch.ones(1, 3, dtype=torch.bool))
    assert silent["ranking/gap"] is silent["ranking/auc"] is silent["ranking/rank_correlation"] is None


def test_agreement_of_scores_and_outcomes_by_counting_pairs_and_by_scipy():
    draw = torch.Generator().manual_seed(0)
    score = torch.randint(0, 6, (40, 5), generator=draw).double()  # many ties
    right = torch.rand(40, 5, generator=draw) < 0.15 + 0.1 * score
    found, kinds = rank(score, right), [(score[right == kind]).tolist() for kind in (True, False)]
    pairs = [(a > b) + (a == b) / 2 for a in kinds[0] for b in kinds[1]]
    assert found["ranking/auc"] == pytest.approx(sum(pairs) / len(pairs), rel=1e-12) and 0.5 < found["ranking/auc"] < 1
    mixed = [(s, r) for s, r in zip(score, right, strict=True) if 0 < r.sum() < 5 and s.min() < s.max()]
    each = [float(spearmanr(s.numpy(), r.double().numpy()).statistic) for s, r in mixed]
    assert found["ranking/rank_correlation"] == pytest.approx(sum(each) / len(each), rel=1e-9) and len(each) > 20
    assert rank(right.double(), right)["ranking/auc"] == 1 and rank(-right.double(), right)[
        "ranking/rank_correlation"
    ] == pytest.approx(-1)


def test_ranking_scores_are_mean_log_ratios():
    model, teacher = random_bigram(1), random_bigram(2)
    ctx = context(POOL, model=model, teacher=teacher)
    rows = ctx.rollouts("model", 4)
    ratio_VV = teacher.logits_VV.log_softmax(-1) - model.logits_VV.log_softmax(-1)
    score = [float(ratio_VV[states(rows.rows([i])), rows.actions[i]].mean()) for i in range(len(rows))]
    expected = rank(torch.tensor(score).view(12, 4), rows.reward_B.view(12, 4) > 0)
    found = Ranking(n=4).measure(ctx)
    assert {k: pytest.approx(v) for k, v in expected.items()} == found and 0 < found["ranking/inverted_pairs"] < 1


def test_a_teacher_tilted_by_success_is_aligned_exactly():
    generator = torch.Generator().manual_seed(3)
    forward = []
    for _ in range(20):
        logq, value = torch.randn(6, generator=generator).double().log_softmax(0), torch.rand(6, generator=generator).double()
        rkl, fkl, gain = align(logq, logq + value / 0.3, value)
        assert rkl == pytest.approx(1, abs=1e-12) and gain > 0
        forward.append(fkl)
        opposed = align(logq, logq - value / 0.3, value)
        assert opposed[0] == pytest.approx(-1, abs=1e-12)
    assert max(forward) < 1 - 1e-6 and min(forward) > 0.5
    assert align(logq, logq, value)[0] is None and align(logq, logq + value, torch.ones_like(logq))[1] is None


def test_alignment_gradients_are_those_of_autograd():
    generator = torch.Generator().manual_seed(4)
    logits, logp = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    value, z = torch.rand(5, generator=generator, dtype=torch.float64), logits.clone().requires_grad_()
    q, p = z.softmax(0), logp.softmax(0)
    losses = {"ideal": q @ value, "rkl": -(q * (q.log() - p.log())).sum(), "fkl": (p * q.log()).sum()}
    ideal, rkl, fkl = (torch.autograd.grad(loss, z, retain_graph=True)[0] for loss in losses.values())
    cosine = lambda a, b: float(torch.nn.functional.cosine_similarity(a, b, dim=0))
    expected = (cosine(ideal, rkl), cosine(ideal, fkl), float(((p - q) @ value).detach()))
    assert align(logits, logp, value) == pytest.approx(expected, abs=1e-12)


def test_alignment_of_one_decision_is_exact():
    """One token is the whole response, so Q is the reward, without noise."""
    model = random_bigram(1)
    model.max_new_tokens = 1
    right = torch.tensor([0.0, 0, 1, 0, 1, 0, 0, 0])
    pool = Prompts(40, lambda i, tokens: float(right[tokens[0]]), token=lambda i: i % 6)
    tilted = Bigram(model.logits_VV + right / 0.5, max_new_tokens=1)
    found = Alignment(top=8, branches=1).measure(context(pool, model=model, teacher=tilted))
    for name in ("rkl", "rkl_correct", "rkl_wrong", "fkl"):  # where Q is 0 or 1, exp(Q) is affine in Q: the forward one as well
        assert found[f"alignment/{name}"] == pytest.approx(1, abs=1e-9)
    assert found["alignment/informative"] == 1
    q, p = model.logits_VV.softmax(-1), tilted.logits_VV.softmax(-1)
    gain = ((p - q) * right).sum(-1)[torch.arange(40) % 6].mean()
    assert found["alignment/teacher_advantage"] == pytest.approx(float(gain))
    hopeless = Alignment().measure(context(Prompts(5, lambda *_: 0.0), model=model, teacher=tilted))
    assert hopeless["alignment/informative"] == 0 and hopeless["alignment/rkl"] is None


def test_alignment_learns_q_from_branches():
    """A state's value is that of the branches that the model itself completes: 1 -> 2 wins, 3 -> 4 loses."""
    logits = torch.full((8, 8), -50.0)
    logits[0, 1] = logits[0, 3] = logits[1, 2] = logits[3, 4] = logits[2, 7] = logits[4, 7] = 0.0
    model, teacher = Bigram(logits), Bigram(logits.clone())
    teacher.logits_VV[0, 1] = 1.0
    pool = Prompts(30, lambda i, tokens: float(2 in tokens))
    found = Alignment(top=2, branches=3).measure(context(pool, model=model, teacher=teacher))
    assert found["alignment/rkl"] == pytest.approx(1, abs=1e-9)  # two candidates have one direction
    assert 0 < found["alignment/informative"] < 1  # only at the first token is there a choice
