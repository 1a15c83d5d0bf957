"""Drafters: texts are the greedy target's whatever is drafted, and each row of theirs is the block that stood at its place."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from opd_steps.errors import UserError
from opd_steps.loop.objective import Objective
from opd_steps.models.bases import Base
from opd_steps.models.families.drafter import Drafter
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.models.numerics import cast
from opd_steps.models.speculative import Speculative
from opd_steps.nouns.draw import Draw
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.stream import VANILLA, Moment
from opd_steps.objectives.weights.draft_decay import DraftDecay
from opd_steps.objectives.where.drafted import Drafted as WhereDrafted
from opd_steps.prefixes.drafted import Drafted, by_block
from opd_steps.prefixes.pieces import Pieces
from opd_steps.tasks.sources.running_sums import RunningSums
from tests.unit.tiny import FakeTokenizer, qwen

VOCAB, BUDGET = 12, 13
PROMPTS = [[1, 2, 3], [4, 5], [6, 7, 8, 9, 1, 2], [3, 3]]
EXACT = {"signal": {"name": "fkl"}, "support": {"name": "full"}, "estimator": {"name": "exact"}}
REJECTED = {
    **VANILLA,
    **EXACT,
    "signal": {"name": "rkl"},
    "where": [{"name": "drafted", "tokens": "rejected"}],
    "weight": [{"name": "draft_decay"}],
}
METHOD = {
    **VANILLA,
    **EXACT,
    "where": [{"name": "drafted", "tokens": "accepted"}],
    "aggregate": "token_mean",
    "add": [REJECTED],
}


def target(seed: int = 3) -> LMPolicy:
    model = qwen(VOCAB, seed, layers=3).requires_grad_(False).eval()
    model.config.eos_token_id = VOCAB - 1
    return LMPolicy(model, FakeTokenizer(VOCAB), temperature=0.0, max_new_tokens=BUDGET)


def drafter(block: int = 4, seed: int = 0, budget: int = BUDGET, batch: int = 256):
    made = Drafter(block=block).fresh(target(), Base("x", "", "y"), seed)
    made.batch = batch
    made.sample_by({"temperature": 0.0, "max_new_tokens": budget})
    return made


def spoken(policy) -> Trajectory:
    ids = list(range(len(PROMPTS)))
    return policy.rollout(PROMPTS, ids, ids)


def oracle(policy, wrong: int):
    """Proposes what the target will say, wrong from a place on: `wrong` of each block."""
    alone, block = policy.target, policy.family.block

    def propose(at_work: Speculative) -> torch.Tensor:
        contexts = [text.context + text.said for text in at_work.texts]
        kept, alone.max_new_tokens = alone.max_new_tokens, block
        said = alone.rollout(contexts, [0] * len(contexts), [0] * len(contexts)).actions
        alone.max_new_tokens = kept
        made = torch.stack([torch.nn.functional.pad(a, (0, block - len(a)), value=0) for a in said])
        made[:, wrong:] = (made[:, wrong:] + 1) % VOCAB
        return made

    return propose


def fitted(policy, steps: int = 60):
    """A drafter that learned some of its target, so that blocks are accepted in part."""
    optim = torch.optim.Adam(policy.model.parameters(), lr=5e-3)
    for _ in range(steps):
        rows = by_block(spoken(policy))
        Objective.from_method(VANILLA | EXACT | {"aggregate": "token_mean"}, 0).backward(
            policy, rows, {}, {"teacher": policy.target}
        )
        optim.step()
        optim.zero_grad()
    return policy


@pytest.fixture(scope="module")
def learned():
    made = fitted(drafter())
    rows = spoken(made)
    found = torch.cat(list(rows.extra["accepted"]))
    assert 0 in found and found.max() > 0  # there is something of both to look at
    return made, rows


# texts


@pytest.mark.parametrize("block", [1, 3, 5])
@pytest.mark.parametrize("budget", [1, 4, BUDGET])
def test_texts_are_the_greedy_targets(block, budget, monkeypatch):
    policy = drafter(block, budget=budget, batch=3)
    for propose in (Speculative.propose, oracle(policy, 99), oracle(policy, 1), oracle(policy, 0)):
        monkeypatch.setattr(Speculative, "propose", propose)
        rows = spoken(policy)
        policy.target.max_new_tokens = budget
        alone = policy.target.rollout(PROMPTS, [0] * 4, [0] * 4)
        assert all(a.equal(b) for a, b in zip(rows.actions, alone.actions, strict=True))
        assert rows.ended_B.equal(alone.ended_B) and max(rows.length_B) <= budget


def test_a_drafter_of_another_architecture():
    torch.manual_seed(0)
    shape = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "initializer_range": 0.3,
    }
    model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCAB, **shape)).requires_grad_(False).eval()
    alone = LMPolicy(model, FakeTokenizer(VOCAB), temperature=0.0, max_new_tokens=BUDGET)
    policy = Drafter(block=3).fresh(alone, Base("x", "", "y"), 0)
    policy.sample_by({"temperature": 0.0, "max_new_tokens": BUDGET})
    rows = spoken(policy)
    assert all(a.equal(b) for a, b in zip(rows.actions, alone.rollout(PROMPTS, [0] * 4, [0] * 4).actions, strict=True))
    assert type(policy.model.layer).__name__ == "LlamaDecoderLayer"


def test_acceptance_by_hand(monkeypatch):
    policy = drafter(4)
    for wrong, each in ((99, 5), (2, 3), (0, 1)):
        monkeypatch.setattr(Speculative, "propose", oracle(policy, wrong))
        rows = spoken(policy)
        for said, anchors, accepted in zip(rows.actions, rows.extra["anchors"], rows.extra["accepted"], strict=True):
            assert anchors.tolist() == list(range(0, len(said), each))
            assert accepted[:-1].eq(each - 1).all() and accepted[-1] <= each - 1


def test_a_text_ends_with_its_first_end_token(monkeypatch):
    policy = drafter(3)
    known = spoken(policy)
    policy.ends = policy.target.ends = (int(known.actions[0][4]),)
    for propose in (Speculative.propose, oracle(policy, 99)):
        monkeypatch.setattr(Speculative, "propose", propose)
        rows = spoken(policy)
        alone = policy.target.rollout(PROMPTS, [0] * 4, [0] * 4)
        assert all(a.equal(b) for a, b in zip(rows.actions, alone.actions, strict=True)) and rows.ended_B.any()
        for drafts in torch.cat(list(rows.extra["drafts"])):
            said = drafts[drafts >= 0].tolist()
            assert not set(said[:-1]) & set(policy.ends)


def test_nothing_is_read_twice(learned):
    """And what is proposed is what re-reading each text from its beginning proposes."""
    policy, _ = learned
    read, whole = [], policy.target.model.base_model.forward

    def counting(*args, **kwargs):
        read.append(kwargs["input_ids"].numel())
        return whole(*args, **kwargs)

    policy.target.model.base_model.forward = counting
    try:
        again = spoken(policy)
    finally:
        del policy.target.model.base_model.forward
    verified = sum(len(anchors) for anchors in again.extra["anchors"])
    prompts = len(PROMPTS) * (max(map(len, PROMPTS)) - 1)
    assert sum(read) == prompts + verified * (policy.family.block + 1)
    blocks = by_block(again)
    for context, block in zip(blocks.contexts, blocks.actions, strict=True):
        assert policy.propose([context])[0][: len(block)].equal(block)


# drafts


def test_a_block_is_what_was_likeliest_at_each_of_its_tokens(learned):
    policy, rows = learned
    blocks = by_block(rows)
    found = policy.dist(blocks)
    assert found.chunk(0, len(found)).logp_NV.argmax(-1).equal(blocks.action_N)
    for i in (0, len(blocks) - 1):  # texts of other lengths beside it change nothing
        alone = policy.dist(blocks.rows([i]))
        here = blocks.owner_N == i
        torch.testing.assert_close(
            alone.chunk(0, len(alone)).logp_NV, found.chunk(0, len(found)).logp_NV[here], rtol=1e-4, atol=1e-5
        )


def test_drafts_see_no_token_that_follows(learned):
    policy, rows = learned
    row = by_block(rows).rows([0])
    before = policy.dist(row)
    said = row.actions[0].clone()
    said[1] = (said[1] + 1) % (VOCAB - 2)
    after = policy.dist(row.with_columns(actions=[said]))
    gap_N = (before.hidden_ND - after.hidden_ND).abs().amax(-1)
    assert gap_N[:2].max() == 0 and gap_N[2:].min() > 0


def test_accepted_is_what_the_target_likes_best_and_rejected_what_it_does_not(learned):
    policy, rows = learned
    blocks = by_block(rows)
    found = policy.target.dist(blocks)
    best_N = found.chunk(0, len(found)).logp_NV.argmax(-1)
    mask = lambda tokens: WhereDrafted(tokens).over_batch(blocks, {}, Moment())[0]
    assert best_N[mask("accepted")].equal(blocks.action_N[mask("accepted")])
    assert (best_N != blocks.action_N)[mask("first")].all() and mask("first").any()
    assert mask("accepted").equal(~mask("rejected"))


def test_masks_and_weights_by_hand():
    rows = Trajectory(
        [[0, 0]] * 3, [torch.zeros(4), torch.zeros(2), torch.zeros(3)], torch.arange(3), extra={"accepted": [1, 2, 0]}
    )
    mask = lambda tokens: WhereDrafted(tokens).over_batch(rows, {}, Moment())[0].long().tolist()
    assert mask("accepted") == [1, 0, 0, 0, 1, 1, 0, 0, 0]
    assert mask("rejected") == [0, 1, 1, 1, 0, 0, 1, 1, 1]
    assert mask("first") == [0, 1, 0, 0, 0, 0, 1, 0, 0]
    assert WhereDrafted().over_batch(rows, {}, Moment())[1] == {"accepted_tokens": 1.0}
    found = DraftDecay(0.5).over_batch(rows, {}, Moment())[0]
    assert found.tolist() == [1, 1, 0.5, 0.25, 1, 1, 1, 0.5, 0.25]


def test_the_loss_is_the_two_streams_each_a_mean_of_its_own(learned):
    policy, rows = learned
    blocks = by_block(rows)
    q, p = (d.chunk(0, len(d)).logp_NV.detach() for d in (policy.dist(blocks), policy.target.dist(blocks)))
    fkl, rkl = (p.exp() * (p - q)).sum(-1), (q.exp() * (q - p)).sum(-1)
    accepted = WhereDrafted().over_batch(blocks, {}, Moment())[0]
    decay = DraftDecay(0.8).over_batch(blocks, {}, Moment())[0]
    want = fkl[accepted].mean() + (decay * rkl)[~accepted].mean()
    found = Objective.from_method(METHOD, 0).backward(policy, blocks, {}, {"teacher": policy.target}, micro_batch=3)
    assert found["loss"] == pytest.approx(float(want), rel=1e-4)
    assert all(p.grad is None for p in policy.target.model.parameters())
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in policy.model.parameters())
    policy.model.zero_grad()


def test_blocks_of_a_batch_have_the_gradient_that_each_has_alone(learned):
    policy, rows = learned
    blocks = by_block(rows)
    found = {}
    for size in (1, 7, len(blocks)):  # of one text and of several, at many places of each
        figures = Objective.from_method(METHOD, 0).backward(policy, blocks, {}, {"teacher": policy.target}, micro_batch=size)
        found[size] = figures["loss"], torch.cat([p.grad.flatten() for p in policy.model.parameters()])
        policy.model.zero_grad()
    for loss, grad in found.values():
        assert loss == pytest.approx(found[1][0], rel=1e-5)
        assert (grad - found[1][1]).norm() < 1e-5 * found[1][1].norm()


def test_in_bf16_by_fp32_weights(learned):
    policy, rows = learned
    blocks, found = by_block(rows), {}
    low = copy.copy(policy)
    low.compute, low.target = torch.bfloat16, copy.copy(policy.target)
    low.target.model, low.target.compute = cast(policy.target.model, torch.bfloat16), torch.bfloat16
    for name, student in (("whole", policy), ("low", low)):
        Objective.from_method(METHOD, 0).backward(student, blocks, {}, {"teacher": policy.target})
        found[name] = torch.cat([p.grad.flatten() for p in student.model.parameters()])
        policy.model.zero_grad()
    assert found["low"].dtype == torch.float32 and not found["low"].equal(found["whole"])
    assert torch.cosine_similarity(found["low"], found["whole"], 0) > 0.999
    assert len(spoken(low)) == len(rows)


def test_a_drafter_is_no_way_from_itself(learned):
    policy, rows = learned
    found = Objective.from_method(METHOD, 0).backward(policy, by_block(rows), {}, {"teacher": policy})
    assert abs(found["divergence"]) < 1e-6 and abs(found["add0_divergence"]) < 1e-6
    policy.model.zero_grad()


# rows


def draw(policy, rows=None, step=1):
    pool = SimpleNamespace(play=lambda p, ids, seeds, version: p.rollout([PROMPTS[i] for i in ids], ids, seeds, version))
    return Draw(step, step - 1, [0, 1, 2, 3], 1, 7, policy, {}, pool, lambda column: rows)


def test_random_places_are_judged_by_the_text_itself(learned):
    policy, rows = learned
    found = Drafted("random").rows(draw(policy)).rows
    assert len(found) == sum(len(anchors) for anchors in rows.extra["anchors"])
    texts = [[*c, *a.tolist()] for c, a in zip(rows.contexts, rows.actions, strict=True)]
    for context, block, right, b in zip(
        found.contexts, found.actions, found.extra["accepted"], found.prompt_B.tolist(), strict=True
    ):
        text = texts[b]
        assert text[: len(context)] == context
        behind = text[len(context) : len(context) + policy.family.block]
        assert len(block) == len(behind)
        assert right == next((k for k, (x, y) in enumerate(zip(block.tolist(), behind, strict=True)) if x != y), len(block))
        assert block.equal(policy.propose([context])[0][: len(block)])
    assert (
        Drafted("random").rows(draw(policy)).rows.contexts
        == found.contexts
        != Drafted("random").rows(draw(policy, step=2)).rows.contexts
    )
    own = Drafted().rows(draw(policy)).rows
    assert all(a.equal(b) for a, b in zip(own.actions, by_block(rows).actions, strict=True))


def test_pieces_of_texts():
    texts = Trajectory([[1, 2], [3]], [torch.arange(5, 12), torch.tensor([9, 8])], torch.tensor([0, 1]))
    made = Pieces(length=3, places=4).rows(SimpleNamespace(**vars(draw(None, texts)) | {"picks": [0, 1]})).rows
    assert len(made) == 6 and made.prompt_B.tolist() == [0] * 4 + [1] * 2
    for context, piece, b in zip(made.contexts, made.actions, made.prompt_B.tolist(), strict=True):
        whole = [*texts.contexts[b], *texts.actions[b].tolist()]
        assert whole[: len(context)] == context and whole[len(context) : len(context) + 3] == piece.tolist()
    assert len({tuple(context) for context in made.contexts}) == 6


def test_running_sums():
    rows = RunningSums(digits=4, train=50, test=5, ood=3).rows(0)
    assert {name: len(split) for name, split in rows.items()} == {"train": 50, "test": 5, "ood": 3}
    for row in rows["train"]:
        digits = [int(c) for c in row["prompt"][:-1]]
        assert row["prompt"].endswith("=") and row["answer"] == "".join(
            f"{d}{sum(digits[: i + 1]) % 10}" for i, d in enumerate(digits)
        )
    with pytest.raises(UserError, match="10 prompts"):
        RunningSums(digits=1).rows(0)


def test_what_is_refused():
    policy = drafter()
    with pytest.raises(UserError, match="expected 0, found 1"):
        policy.sample_by({"temperature": 1.0, "max_new_tokens": 4})
        spoken(policy)
    with pytest.raises(UserError, match="two tokens at least"):
        policy.propose([[1]])
    with pytest.raises(UserError, match="layer 9 is asked of a target that has 3"):
        Drafter(layers=[9]).fresh(target(), Base("x", "", "y"), 0)
    with pytest.raises(UserError, match="of kind drafter"):
        Drafter().make(SimpleNamespace())
