"""Masked diffusion language models: what each step uncovers, what each decision saw, what a teacher is shown, and where the loss is."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from opd_steps.errors import UserError
from opd_steps.loop.objective import Objective
from opd_steps.models.families.masked_lm import MaskedLM
from opd_steps.models.masked_policy import MaskedPolicy
from opd_steps.nouns.draw import Draw
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.stream import VANILLA, Moment
from opd_steps.objectives.weights.verified import Verified
from opd_steps.objectives.where.committed import Committed
from opd_steps.prefixes.denoised import Denoised, by_state
from opd_steps.prefixes.masked import Masked
from opd_steps.seeds import rng
from opd_steps.tasks.sources.reversed_twice import ReversedTwice
from opd_steps.teachers.contexts.suffix import Suffix

PLACES, BLOCK, EACH = 12, 4, 2
CONFIG = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "global_attn_every_n_layers": 1,
    "initializer_range": 0.5,
}
PROMPTS = ["12>", "3>", "4567>", "89>", "0>"]
STEP_LEVEL = {
    **VANILLA,
    "against": "told",
    "signal": {"name": "jsd", "beta": 1.0},
    "support": {"name": "teacher_topk", "k": 3, "norm": "renormalise"},
    "estimator": {"name": "exact"},
    "where": [{"name": "committed"}],
    "aggregate": "token_mean",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return made(tmp_path_factory.mktemp("masked"))


def made(place: Path) -> Path:
    """A model of a node."""
    options = {"path": None, "revision": None, "config": CONFIG, "tokenizer": "byte"}
    facts = family().make(SimpleNamespace(stage=place, seed=0, options=options, manifests={}))
    assert facts["positions"] == 64 and facts["vocab_size"] == 261
    return place


def family() -> MaskedLM:
    return MaskedLM(block=BLOCK, per_step=EACH)


def policy(folder, train=False, temperature=1.0, **more) -> MaskedPolicy:
    sampling = {"temperature": temperature, "top_p": 1.0, "max_new_tokens": PLACES}
    return family().policy(folder, train=train, sampling=sampling, **more)


def contexts(model: MaskedPolicy) -> list[list[int]]:
    return [model.tokenizer(text)["input_ids"] for text in PROMPTS]


def written(model: MaskedPolicy, first: int = 0) -> Trajectory:
    ids = list(range(first, first + len(PROMPTS)))
    rows = model.rollout(contexts(model), ids, ids)
    return rows.with_columns(reward_B=torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0]))


def moved(model: MaskedPolicy) -> MaskedPolicy:
    """Other weights."""
    with torch.no_grad():
        for p in model.model.parameters():
            p *= 0.6
    return model


# decoding


def by_hand(model: MaskedPolicy, context: list[int], seed: int) -> tuple[list[int], list[int]]:
    """(text, step of each place) by the method's words, a text and a token at a time."""
    chance, mask = rng(seed).random((PLACES // EACH, BLOCK)), model.mask
    text, order = [mask] * PLACES, [None] * PLACES
    for step in range(PLACES // EACH):
        start = order.index(None) // BLOCK * BLOCK
        logits = model.model(input_ids=torch.tensor([context + text])).logits[0, len(context) :, : model.vocab]
        logits[:, mask] = -torch.inf
        drawn = {}
        for place in range(start, start + BLOCK):
            if order[place] is None:
                likely = torch.softmax(logits[place] / (model.temperature or 1), -1).double()
                at = int(np.searchsorted(likely.cumsum(0).numpy(), chance[step, place - start]))
                token = at if model.temperature else int(likely.argmax())
                drawn[place] = (float(torch.softmax(logits[place], -1)[token]), token)
        for place in sorted(drawn, key=lambda place: -drawn[place][0])[:EACH]:
            text[place], order[place] = drawn[place][1], step
    return text, order


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_texts_are_those_of_the_method_by_hand(folder, temperature):
    model = policy(folder, temperature=temperature, batch=3)
    rows = written(model)
    for b, context in enumerate(contexts(model)):
        with torch.no_grad():
            text, order = by_hand(model, context, b)
        assert rows.extra["text"][b].tolist() == text and rows.extra["order"][b].tolist() == order


def test_each_step_uncovers_as_many_as_it_is_told_of_its_own_block(folder):
    for order_G in written(policy(folder)).extra["order"]:
        assert order_G.bincount().tolist() == [EACH] * (PLACES // EACH)
        assert (order_G // (BLOCK // EACH)).equal(torch.arange(PLACES) // BLOCK)
    with pytest.raises(UserError, match="multiple"):
        MaskedLM(block=5, per_step=1).policy(folder, sampling={"temperature": 1, "max_new_tokens": 12}).rollout([[5]], [0], [0])


def test_rows_hold_the_log_probs_of_their_tokens_when_they_were_drawn(folder):
    model = policy(folder, temperature=0.8)
    rows = written(model)
    torch.testing.assert_close(
        rows.logp_N, model.dist(rows).chunk(0, len(rows.action_N)).logp(rows.action_N), rtol=1e-4, atol=1e-4
    )
    alone = model.rollout([contexts(model)[2]], [2], [2])
    assert alone.extra["text"][0].equal(rows.extra["text"][2])


def test_answers_end_at_their_first_end_token(folder):
    model = policy(folder)
    end = model.tokenizer.eos_token_id
    assert model.end(torch.tensor([5, end, 6, end])) == 2 and model.end(torch.tensor([5, 6])) == 2
    model.ends = tuple(written(model).extra["text"][0][5:6].tolist())  # as if that token ended texts
    rows = written(model)
    assert rows.length_B[0] <= 6 and rows.ended_B[0] and rows.actions[0][-1] in model.ends
    assert len(rows.extra["text"][0]) == PLACES and len(rows.extra["places"][0]) == len(rows.actions[0])


def test_a_decision_sees_the_context_and_what_was_uncovered_before(folder):
    model = policy(folder)
    rows = written(model).rows([0])
    told, text_SG, state_N, place_N = model.states(rows)
    order = rows.extra["order"][0]
    assert len(told) == len(text_SG) == order.max() + 1 and place_N.equal(torch.arange(len(place_N)))
    for step, text_G in enumerate(text_SG):
        assert ((text_G == model.mask) == (order >= step)).all()
    assert state_N.equal(order[: len(state_N)])
    with pytest.raises(UserError, match="prefix: masked"):
        model.dist(Trajectory([[5]], [torch.tensor([6])], torch.tensor([0])))


def test_prompts_of_other_lengths_beside_it_change_nothing(folder):
    model = policy(folder)
    rows = written(model)
    with torch.no_grad():
        together = model.dist(rows).hidden_ND.split(rows.length_B.tolist())
        for b, whole in enumerate(together):
            torch.testing.assert_close(model.dist(rows.rows([b])).hidden_ND, whole, rtol=1e-4, atol=1e-4)


def test_the_mask_is_never_said(folder):
    model = policy(folder)
    rows = written(model)
    dist = model.dist(rows).chunk(0, len(rows.action_N))
    assert (dist.logp_NV[:, model.mask].exp() == 0).all() and dist.logp_NV.isfinite().all()


# states


def test_a_row_for_each_state_until_the_answer_is_whole_but_for_the_last_block(folder):
    model = policy(folder)
    rows = written(model)
    states = by_state(rows)
    found = [(int(p), int(s[0])) for p, s in zip(states.prompt_B, states.extra["steps"], strict=True)]
    want = []
    for b, order_G in enumerate(rows.extra["order"]):
        need = max(order_G[place] for place in range(len(rows.actions[b])))
        want += [(b, step) for step in range((PLACES - BLOCK) // EACH) if step <= need]
    assert found == want
    columns = zip(states.actions, *(states.extra[name] for name in ("text", "order", "places", "steps")), strict=True)
    for actions, text_G, order_G, places, steps in columns:
        block, step = int(places[0]) // BLOCK, int(steps[0])
        assert block == step // (BLOCK // EACH) and (places // BLOCK == block).all() and (steps == step).all()
        assert places.tolist() == [g for g in range(PLACES) if g // BLOCK == block and order_G[g] >= step]
        assert actions.equal(text_G[places])


class Judge:
    """A pool that finds texts right by their prompt's number and how often it was asked."""

    def __init__(self, prompts, right_at):
        self.prompts, self.right_at, self.asked = prompts, right_at, []

    def play(self, model, ids, seeds, version=0):
        self.asked.append((list(ids), model.temperature))
        rows = model.rollout([self.prompts[i] for i in ids], ids, seeds, version)
        return rows.with_columns(reward_B=torch.tensor([float(self.right_at[i] <= len(self.asked)) for i in ids]))


def draw(model, pool, picks) -> Draw:
    return Draw(1, 0, picks, 1, 7, model, {}, pool, None)


def test_rejected_texts_are_drawn_anew_until_one_is_right(folder):
    model = policy(folder)
    pool = Judge(contexts(model), [1, 3, 99, 2, 1])
    batch = Denoised(tries=3, again=0.5).rows(draw(model, pool, list(range(5))))
    assert pool.asked == [([0, 1, 2, 3, 4], 1.0), ([1, 2, 3], 0.5), ([1, 2], 0.5)] and model.temperature == 1
    reward = dict(zip(batch.rows.prompt_B.tolist(), batch.rows.reward_B.tolist(), strict=True))
    assert reward == {0: 1, 1: 1, 2: 0, 3: 1, 4: 1} and batch.metrics["reward"] == pytest.approx(0.8)
    assert batch.rows.prompt_B.tolist() == sorted(batch.rows.prompt_B.tolist())
    again = Denoised(tries=3, again=0.5).rows(draw(model, Judge(contexts(model), [1, 3, 99, 2, 1]), list(range(5))))
    assert all(a.equal(b) for a, b in zip(again.rows.actions, batch.rows.actions, strict=True))


def test_masked_copies_of_written_texts(folder):
    model, end, counts = policy(folder), 1, []
    text = Trajectory(contexts(model), [torch.tensor([7, 8, 9, end])] * 5, torch.arange(5))
    of = lambda step: Draw(step, 0, list(range(5)), 1, 7, model, {}, None, lambda *_: text)
    for step in range(1, 61):
        made = Masked().rows(of(step)).rows
        for b, places in enumerate(made.extra["places"]):
            assert made.extra["text"][b].tolist() == [7, 8, 9] + [end] * (PLACES - 3)
            assert made.actions[b].equal(made.extra["text"][b][places]) and len(places.unique()) == len(places)
            counts.append(len(places))
        _, seen_SG, _, _ = model.states(made)
        assert [(row == model.mask).nonzero()[:, 0].tolist() for row in seen_SG] == [p.tolist() for p in made.extra["places"]]
    assert set(counts) == set(range(1, PLACES + 1)) and abs(np.mean(counts) - (PLACES + 1) / 2) < 0.8
    model.max_new_tokens = 3
    with pytest.raises(UserError, match="4 tokens"):
        Masked().rows(of(1))


# the teacher


def test_a_teacher_is_shown_its_own_text_and_only_behind_the_block(folder):
    model = policy(folder)
    rows = by_state(written(model))
    for share in (0.0, 0.25, 0.5, 1.0):
        told = Suffix(share).prepare(rows, None, 3, "told")
        _, own_SG, _, _ = model.states(told)
        _, seen_SG, _, _ = model.states(told, "told")
        for b, (own_G, seen_G) in enumerate(zip(own_SG, seen_SG, strict=True)):
            behind = (int(rows.extra["places"][b][0]) // BLOCK + 1) * BLOCK
            new = (own_G != seen_G).nonzero()[:, 0]
            text_G = rows.extra["text"][b]
            assert (new >= behind).all() and seen_G[new].equal(text_G[new]) and seen_G[:behind].equal(own_G[:behind])
            assert len(new) == int(share * (PLACES - behind)) == int(told.extra["shown:told"][b].sum())
    column = lambda rows: torch.cat(Suffix(0.5).prepare(rows, None, 3, "told").extra["shown:told"])
    assert column(rows).equal(column(rows)) and not column(rows).equal(column(rows.with_columns(version_B=rows.version_B + 1)))


def test_rollouts_know_nothing_of_the_teacher(folder):
    """Texts are the same whoever taught, while the weights are."""
    student, teacher = policy(folder, train=True), moved(policy(folder))
    before = written(student)
    rows = Suffix(0.5).prepare(by_state(before), None, 0, "told")
    Objective.from_method(STEP_LEVEL, PLACES).backward(student, rows, {}, {"told": teacher})
    after = written(student)
    assert all(a.equal(b) for a, b in zip(before.extra["text"], after.extra["text"], strict=True))


# the loss


def test_a_student_is_no_way_from_itself(folder):
    student, same = policy(folder, train=True), policy(folder)
    rows = by_state(written(student))
    found = Objective.from_method(STEP_LEVEL, PLACES).backward(student, rows, {}, {"told": same})
    assert abs(found["divergence"]) < 1e-7
    assert max(float(p.grad.abs().max()) for p in student.model.parameters() if p.grad is not None) < 1e-5
    told = Suffix(1.0).prepare(rows, None, 0, "told")
    found = Objective.from_method(STEP_LEVEL, PLACES).backward(student, told, {}, {"told": same})
    assert found["divergence"] > 1e-3  # of its context alone


def alone(model: MaskedPolicy, context: list[int], text_G: torch.Tensor) -> torch.Tensor:
    """Logits at all places of one text, of all tokens but the mask, which is the last."""
    tokens = torch.tensor([context + text_G.tolist()])
    return model.model(input_ids=tokens).logits[0, len(context) :, : model.mask]


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("cap", [None, 0.01])
def test_the_divergence_is_the_released_codes(folder, beta, cap):
    """Sum over the two places and the teacher's k likeliest tokens, renormalised on both sides, mean over states; each summand clipped."""
    student, teacher = policy(folder, train=True), moved(policy(folder))
    rows = Suffix(0.5).prepare(by_state(written(student)), None, 0, "told")
    signal = {"name": "jsd", "beta": beta}
    method = STEP_LEVEL | {
        "aggregate": "seq_sum",
        "signal": signal if cap is None else {"name": "capped", "of": signal, "cap": cap},
    }
    found = Objective.from_method(method, PLACES).backward(student, rows, {}, {"told": teacher}, micro_batch=3)
    own = torch.cat([p.grad.flatten() for p in student.model.parameters() if p.grad is not None])
    student.model.zero_grad()

    _, text_SG, _, _ = student.states(rows)
    _, shown_SG, _, _ = student.states(rows, "told")
    total = 0.0
    for b, (text_G, shown_G) in enumerate(zip(text_SG, shown_SG, strict=True)):
        context, start = rows.contexts[b], int(rows.extra["places"][b][0]) // BLOCK * BLOCK
        with torch.no_grad():
            theirs = alone(teacher, context, shown_G)
        places = [g for g in range(start, start + BLOCK) if text_G[g] == student.mask]
        surest = sorted(places, key=lambda g: -float(theirs[g].softmax(-1).max()))[:EACH]
        p_EV, q_EV = theirs[surest], alone(student, context, text_G)[surest]
        ids = p_EV.topk(3, -1).indices
        logp, logq = p_EV.gather(-1, ids).log_softmax(-1), q_EV.gather(-1, ids).log_softmax(-1)
        if beta == 0:
            terms = logp.exp() * (logp - logq)
        elif beta == 1:
            terms = logq.exp() * (logq - logp)
        else:
            logm = (beta * logp.exp() + (1 - beta) * logq.exp()).log()
            terms = beta * logp.exp() * (logp - logm) + (1 - beta) * logq.exp() * (logq - logm)
        total = total + (terms if cap is None else terms.clamp(max=cap)).sum()
    loss = total / len(rows)
    loss.backward()
    want = torch.cat([p.grad.flatten() for p in student.model.parameters() if p.grad is not None])
    assert found["loss"] == pytest.approx(float(loss.detach()), rel=1e-4) and found["loss"] != 0
    torch.testing.assert_close(own, want, rtol=1e-3, atol=1e-5)


def test_no_place_outside_the_teachers_commitment_is_trained(folder):
    """The gradient by the student's logits is 0 at every place but those; rejected texts have none at all."""
    student, teacher = policy(folder, train=True), moved(policy(folder))
    rows = Suffix(0.5).prepare(by_state(written(student)), None, 0, "told")
    logits = []
    plain = student._logits
    student._logits = lambda *a: logits.append(plain(*a)) or logits[-1].retain_grad() or logits[-1]
    Objective.from_method(STEP_LEVEL | {"weight": [{"name": "verified"}]}, PLACES).backward(
        student, rows, {}, {"told": teacher}
    )
    touched_N = logits[-1].grad.abs().sum(-1) > 0
    sure_N = torch.cat(
        [teacher.dist(rows.rows([b]), "told").chunk(0, n).topk(1)[0][:, 0] for b, n in enumerate(rows.length_B.tolist())]
    )
    for b, (mine, sure) in enumerate(
        zip(touched_N.split(rows.length_B.tolist()), sure_N.split(rows.length_B.tolist()), strict=True)
    ):
        want = sorted(sure.topk(EACH).indices.tolist()) if rows.reward_B[b] else []
        assert mine.nonzero()[:, 0].tolist() == want


def test_places_that_the_student_uncovered(folder):
    rows = by_state(written(policy(folder)))
    sure_N = torch.rand(len(rows.action_N))
    own_N, told = Committed(by="student").over_batch(rows, {"sure": sure_N}, Moment())
    theirs_N, same = Committed().over_batch(rows, {"sure": sure_N}, Moment())
    assert told == same and 0 < told["agreed"] < 1
    for mask_N in (own_N, theirs_N):
        assert [int(part.sum()) for part in mask_N.split(rows.length_B.tolist())] == [EACH] * len(rows)
    for b, mine in enumerate(own_N.split(rows.length_B.tolist())):
        order, step = rows.extra["order"][b], int(rows.extra["steps"][b][0])
        assert rows.extra["places"][b][mine].tolist() == (order == step).nonzero()[:, 0].tolist()


def test_only_texts_that_were_judged_are_verified(folder):
    rows = by_state(written(policy(folder)))
    weight_N, told = Verified().over_batch(rows, {}, Moment())
    assert weight_N.equal(rows.reward_B[rows.owner_N]) and told["verified"] == pytest.approx(float(rows.reward_B.mean()))
    with pytest.raises(UserError, match="judged"):
        Verified().over_batch(rows.with_columns(reward_B=None), {}, Moment())


# data and folders


def test_the_source_slips_in_both_copies_alike():
    rows = ReversedTwice(digits=6, slips=0.3, train=4000, test=10, ood=10).rows(0)["train"]
    assert all(r["solution"] == r["prompt"][:-1][::-1] * 2 == r["answer"] for r in rows)
    assert all(r["corpus"][:6] == r["corpus"][6:] for r in rows)
    slips = np.array([sum(a != b for a, b in zip(r["corpus"][:6], r["solution"][:6], strict=True)) for r in rows])
    assert set(slips) == {0, 1} and 0.27 < slips.mean() < 0.33
