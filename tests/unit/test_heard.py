"""Texts in which others wrote: what they wrote is context of the decisions behind it, and nothing else."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opd_steps.config.asks import Asks
from opd_steps.loop.batches import rollout_metrics, unsampled
from opd_steps.loop.objective import Objective
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.models.tokenizers import char_tokenizer, encode
from opd_steps.nouns.batch import Batch
from opd_steps.nouns.columns import pack, unpack
from opd_steps.nouns.heard import apart, woven
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.rollout.table import read_rollouts, write_rollouts
from opd_steps.tasks.asking import Task
from opd_steps.tasks.pool import PromptPool
from opd_steps.tasks.turns import Reply, converse
from opd_steps.tasks.worlds.walk_slips import WalkSlips
from opd_steps.teachers.engine import EngineTeacher
from tests.unit.test_loop_objective import gradients, policies
from tests.unit.tiny import FakeTokenizer, method, qwen

BUDGET = 6
EXACT = {"signal": {"name": "rkl"}, "support": {"name": "full"}, "estimator": {"name": "exact"}}


def echo(going, said):
    """A tool that answers a token of a number divisible by 3 with its double and a 1."""
    found = [next((k for k, token in enumerate(tokens) if token % 3 == 0), None) for tokens in said]
    return [None if k is None else Reply(k + 1, [2 * t[k] % 18, 1]) for k, t in zip(found, said, strict=True)]


def talk(policy, rows: int = 12, answer=echo, seed: int = 0) -> Trajectory:
    contexts = [[1 + i % 5, 2, 3 + i][: 2 + i % 2] for i in range(rows)]
    return converse(policy, contexts, list(range(rows)), [100 * seed + i for i in range(rows)], 0, answer)


def by_turns(rows: Trajectory) -> Trajectory:
    """The same decisions as rows of one turn each, scored by hand: each behind all that was written before it."""
    contexts, actions = [], []
    for context, tokens, places in zip(rows.contexts, *woven(rows), strict=True):
        for place in places:
            contexts.append([*context, *tokens[:place]])
            actions.append(torch.tensor([tokens[place]]))
    return Trajectory(contexts, actions, torch.arange(len(actions)))


def same(one: Trajectory, other: Trajectory) -> None:
    for a, b in ((one.actions, other.actions), (one.heard, other.heard)):
        assert len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert one.contexts == other.contexts and torch.equal(one.logp_N, other.logp_N)


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=12))
def test_woven_and_apart_are_each_others_inverse(tokens):
    ids, own = torch.tensor([t for t, _ in tokens], dtype=torch.long), torch.tensor([o for _, o in tokens], dtype=torch.bool)
    actions, heard = apart(ids, own)
    (found,), (places,) = woven(Trajectory([[0]], [actions], torch.tensor([0]), heard=[heard]))
    assert found == ids.tolist() and list(places) == own.nonzero()[:, 0].tolist()


def test_rows_are_answered_and_keep_to_the_budget():
    policy, _ = policies()
    rows = talk(policy)
    assert sum(len(h) > 2 for h in rows.heard) > 2  # twice or more
    assert int(rows.length_B.max()) == BUDGET and rollout_metrics(rows)["length"] == float(rows.length_B.float().mean())
    for actions, heard, ended in zip(rows.actions, rows.heard, rows.ended_B, strict=True):
        assert heard[:, 0].tolist() == [k + 1 for k, t in enumerate(actions.tolist()) if t % 3 == 0 for _ in range(2)]
        assert bool(ended) == (int(actions[-1]) in policy.ends)
    alone, beside = talk(policy, rows=3), rows.rows(slice(0, 3))
    torch.testing.assert_close(beside.logp_N, alone.logp_N, atol=1e-5, rtol=0)  # the last bits depend on the batch
    same(beside, alone.with_columns(logp=beside.logp))


def test_nobody_answers_is_a_rollout_to_the_bit():
    policy, _ = policies()
    rows = talk(policy, answer=lambda going, said: [None] * len(going))
    plain = policy.rollout(rows.contexts, range(12), range(12))
    same(rows, plain.with_columns(heard=rows.heard))
    assert all(len(h) == 0 for h in rows.heard) and torch.equal(rows.ended_B, plain.ended_B)


def test_an_answer_stands_behind_a_new_token():
    policy, _ = policies()
    with pytest.raises(ValueError, match="at least one new token"):
        talk(policy, answer=lambda going, said: [Reply(0, [1])] * len(going))


def test_sampler_and_trainer_agree():
    policy, _ = policies()
    rows = talk(policy)
    assert (policy.dist(rows).chunk(0, len(rows.action_N)).logp(rows.action_N) - rows.logp_N).abs().max() < 1e-5


@pytest.mark.parametrize("options", [{}, EXACT, {"estimator": {"name": "mle"}}], ids=["sampled", "exact", "sft"])
@pytest.mark.parametrize("micro_batch", [3, 64])
def test_loss_and_gradient_are_those_of_the_decisions_scored_by_hand(options, micro_batch):
    objective = Objective.from_method({**method(**options), "add": []}, BUDGET)
    found = []
    for turn in (lambda rows: rows, by_turns):
        policy, teacher = policies()
        rows = turn(talk(policy))
        said = objective.backward(policy, rows, {}, {"teacher": teacher}, micro_batch)
        found.append((said["loss"], gradients(policy.model)))
    (loss, grads), (by_hand, grads_by_hand) = found
    assert loss == pytest.approx(by_hand, abs=1e-6)
    for name, grad in grads.items():
        torch.testing.assert_close(grad, grads_by_hand[name], atol=1e-6, rtol=1e-4)


def test_no_gradient_where_others_wrote():
    policy, teacher = policies()
    rows = talk(policy)
    kept = []

    def keep(module, args, out):
        out[0].retain_grad()
        kept.append(out[0])

    policy.model.model.register_forward_hook(keep)
    Objective.from_method({**method(**EXACT), "add": []}, BUDGET).backward(policy, rows, {}, {"teacher": teacher}, 64)
    (hidden_BLD,) = kept
    own = torch.zeros(hidden_BLD.shape[:2], dtype=torch.bool)
    for b, (context, places) in enumerate(zip(rows.contexts, woven(rows)[1], strict=True)):
        own[b, [len(context) - 1 + p for p in places]] = True
    reached = hidden_BLD.grad.abs().sum(-1) > 0
    assert torch.equal(reached, own) and 0 < own.sum() == len(rows.action_N)


def test_what_is_heard_behind_the_last_decision_changes_nothing():
    policy, teacher = policies()
    rows = talk(policy)
    more = [torch.cat([h, torch.tensor([[len(a), 7]])]) for a, h in zip(rows.actions, rows.heard, strict=True)]
    for role in (policy, teacher):
        before, after = (
            role.dist(r).chunk(0, len(rows.action_N)).logp(rows.action_N) for r in (rows, replace(rows, heard=more))
        )
        torch.testing.assert_close(after, before, atol=1e-5, rtol=0)


def test_columns_survive_buffer_and_file(tmp_path):
    policy, _ = policies()
    rows = talk(policy)
    same(unpack(pack(Batch(rows))).rows, rows)
    write_rollouts(tmp_path, rows, [str(i) for i in range(12)], [""] * 12)
    same(read_rollouts(tmp_path), rows)
    same(read_rollouts(tmp_path).rows([5, 2]), rows.rows([5, 2]))
    plain = policy.rollout(rows.contexts, range(12), range(12))
    write_rollouts(tmp_path, plain, [str(i) for i in range(12)], [""] * 12)
    assert read_rollouts(tmp_path).heard is None


def test_joined_with_rows_that_heard_nothing():
    policy, _ = policies()
    rows, plain = talk(policy), policy.rollout([[1, 2], [3]], [0, 1], [5, 6])
    both = Trajectory.concat([plain, rows])
    same(both.rows(slice(2, 14)), rows)
    assert all(len(h) == 0 for h in both.heard[:2]) and unsampled(both, 1).heard is both.heard
    assert Trajectory.concat([plain, plain]).heard is None
    torch.testing.assert_close(
        policy.dist(both).hidden_ND[: len(plain.action_N)], policy.dist(plain).hidden_ND, atol=1e-5, rtol=0
    )


class Scored:
    """An engine that scores with a torch model, as vLLM does: every token from a place on."""

    limit = 100

    def __init__(self, policy):
        self.policy = policy

    def score(self, rows, starts, k):
        out = []
        for row, start in zip(rows, starts, strict=True):
            whole = Trajectory([row[:start]], [torch.tensor(row[start:])], torch.tensor([0]))
            q = self.policy.dist(whole).chunk(0, len(row) - start)
            out.append((q.logp(whole.action_N), *reversed(q.topk(k))))
        return tuple(list(column) for column in zip(*out, strict=True))


@torch.no_grad()
@pytest.mark.parametrize("told", [False, True], ids=["plain", "with a context"])
def test_a_teacher_behind_an_engine_says_what_a_local_one_says(told):
    policy, teacher = policies()
    rows = talk(policy)
    if told:
        rows = rows.with_columns(extra={"context:teacher": [[4, 4, *context] for context in rows.contexts]})
    engine = EngineTeacher(lambda k: Scored(teacher), FakeTokenizer(20), Asks(sampled=True, topk=3))
    engine.start(50)
    said = engine.dist(engine.prepare(rows), "teacher")
    local = teacher.dist(rows, "teacher").chunk(0, len(rows.action_N))
    torch.testing.assert_close(said.logp(rows.action_N), local.logp(rows.action_N), atol=1e-5, rtol=0)
    torch.testing.assert_close(said.topk(3)[0], local.topk(3)[0], atol=1e-5, rtol=0)


class Elsewhere:
    """An engine in the place of the torch model, whose weights are sent to it."""

    def __init__(self, policy, longest: int):
        self.policy, self.longest, self.version, self.synced, self.asked = policy, longest, 0, [], 0

    def sync(self, model, version):
        self.version = version
        self.synced.append(version)

    def generate(self, contexts, seeds, **sampling):
        assert max(map(len, contexts)) + sampling["max_new_tokens"] <= self.longest
        self.asked += 1
        return self.policy._decode(contexts, seeds, sampling)


def test_an_engine_is_asked_again_with_longer_contexts_that_fit():
    policy, _ = policies()
    local = talk(policy)
    engine = Elsewhere(policies()[0], 3 + WalkSlips().room(BUDGET))  # it too answers a token with two
    policy.engine = engine
    rows = converse(policy, local.contexts, list(range(12)), list(range(12)), 5, echo)
    same(rows, local)
    assert engine.synced == [5] and engine.asked > 2 and rows.version_B.tolist() == [5] * 12


def test_the_example_of_the_docs():
    """A user who tells a question bit by bit: his words stand between the policy's turns, and no more are said than he has."""
    page = (Path(__file__).parents[2] / "docs/architecture.md").read_text()
    (example,) = re.findall(r"```python\n(class Shards.*?)```", page, re.S)
    exec(example, known := {"PromptPool": PromptPool, "Reply": Reply, "converse": converse, "encode": encode})
    tokenizer = char_tokenizer("abcdefgh: ")
    rows = [
        {"prompt": "a:", "answer": "b", "meta": {"shards": [" c:", " d:"]}},
        {"prompt": "b:", "answer": "b", "meta": {"shards": []}},
    ]
    pool = known["Shards"](rows, Task({"name": "exact", "after": ":"}, {"name": "none"}, False, None), tokenizer)
    policy = LMPolicy(qwen(24, 0), tokenizer, max_new_tokens=50)
    played = pool.play(policy, [0] * 20 + [1] * 2, list(range(22)))
    assert played.ended_B[:20].any() and int(played.length_B.max()) <= 50 and played.reward_B.isfinite().all()
    for i, (heard, text) in enumerate(zip(played.heard, pool.show(played), strict=True)):
        told, all_of_it = tokenizer.decode(heard[:, 1]), " c: d:" if i < 20 else ""
        assert told == all_of_it if played.ended_B[i] else all_of_it.startswith(told)
        assert all(part in text for part in (told[:3], told[3:]))
