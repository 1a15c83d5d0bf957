"""Rows that go on from places of one text: it is read once, and what each says is what it says by itself."""

from __future__ import annotations

import pytest
import torch

from opd_steps.loop.objective import Objective
from opd_steps.models import trunks as trunks_module
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.models.trunks import branched, trunks
from opd_steps.nouns.heard import woven
from opd_steps.nouns.trajectory import Trajectory
from tests.unit.test_packing import TYPES, VOCAB, WIDE, policy, require_same
from tests.unit.tiny import method


def test_by_hand():
    contexts = [[1, 2], [1, 2, 3, 4], [5], [1, 2, 3], [1, 2], [1, 3]]
    found = trunks(contexts)
    assert found.texts == [[5], [1, 3], [1, 2, 3, 4]]
    assert found.of_B == [2, 2, 0, 2, 2, 1]
    assert sorted(found.slot_B[b] for b in (0, 1, 3, 4)) == [0, 1, 2, 3] and found.slot_B[2] == found.slot_B[5] == 0
    assert found.most == 4


def test_each_context_begins_its_trunk_and_no_trunk_begins_another():
    draw = torch.Generator().manual_seed(0)
    contexts = [torch.randint(0, 2, (1 + b % 7,), generator=draw).tolist() for b in range(200)]
    found = trunks(contexts)
    assert all(found.texts[t][: len(c)] == c for c, t in zip(contexts, found.of_B, strict=True))
    begins = lambda a, b: a is not b and b[: len(a)] == a
    assert not any(begins(a, b) for a in found.texts for b in found.texts)
    places = list(zip(found.of_B, found.slot_B, strict=True))
    assert len(set(places)) == len(places) and max(slot for _, slot in places) == found.most - 1


def rows(texts: int = 3, places: int = 6) -> Trajectory:
    """Of each text several places, and behind each some tokens; a few have heard others."""
    draw = torch.Generator().manual_seed(2)
    tokens = lambda n: torch.randint(1, VOCAB - 2, (n,), generator=draw)
    known = [tokens(30 + 3 * t).tolist() for t in range(texts)]
    count = texts * places
    follows = lambda b, n: known[b % texts][12 + 4 * (b // texts) :][:n]  # what the text itself says there
    said = [tokens(1 + b % 4) for b in range(count)]
    for b in range(0, count, 2):  # none, some or all of it
        said[b][: b % 4] = torch.tensor(follows(b, len(said[b][: b % 4])))
    return Trajectory(
        [known[b % texts][: 12 + 4 * (b // texts)] for b in range(count)],
        said,
        torch.arange(count) % texts,
        logp=[-torch.rand(1 + b % 4, generator=draw) for b in range(count)],
        reward_B=(torch.arange(count) % 2).float(),
        heard=[torch.tensor([[1, 7], [1, 9]])[: 2 * (b % 5 == 3)] for b in range(count)],
    )


def backward(student: LMPolicy) -> tuple[dict, dict]:
    teacher = policy(student.numerics.packed, dtype=student.compute, seed=1)
    batch = rows()
    columns = {"outcome": torch.linspace(-1, 1, len(batch))}
    stats = Objective.from_method(method(**WIDE), 32).backward(student, batch, columns, {"teacher": teacher}, 64)
    return stats, {name: p.grad for name, p in student.model.named_parameters()}


@pytest.mark.parametrize("kind", TYPES)
def test_packed_rows_of_one_text_have_the_gradient_of_padded_ones(kind):
    dtype = torch.float32 if kind == "qwen3_moe" else torch.float64  # grouped products know no fp64
    how = {"kind": kind, "dtype": dtype}
    within = 1e-10 if kind in ("gpt2", "gpt_neox") else 1e-6  # others' norms are in fp32, and so is what is summed before them
    read = {packed: policy(packed, **how) for packed in (True, False)}
    count = {packed: len(student._read(rows(), "student").tokens_BL.flatten()) for packed, student in read.items()}
    assert 2 * count[True] <= count[False]
    require_same(*(backward(student) for student in read.values()), within)


def test_what_a_text_says_itself_is_no_branch():
    text = list(range(20))
    pieces = Trajectory(
        [text[:n] for n in range(4, 17)], [torch.tensor(text[n : n + 3]) for n in range(4, 17)], torch.zeros(13)
    )
    read = branched(pieces.contexts, *woven(pieces), 0, "cpu")
    assert read.tokens_BL.tolist() == [[*text[:16], 16, 16, 17]]  # behind the last place two pieces go on by themselves
    assert read.how["position_ids"][0, read.at_N].tolist() == [n - 1 + k for n in range(4, 17) for k in range(3)]
    assert read.tokens_BL[0, read.at_N].tolist() == [text[n - 1 + k] for n in range(4, 17) for k in range(3)]


def test_long_answers_to_one_prompt_are_read_one_by_one(monkeypatch):
    answers = Trajectory([[1] * 9] * 8, [torch.full((2 + k,), 2 + k) for k in range(8)], torch.zeros(8))
    read = lambda: branched(answers.contexts, *woven(answers), 0, "cpu")
    assert read().tokens_BL.shape == (1, 45)
    monkeypatch.setattr(trunks_module, "SMALL", 0)  # 45^2 = 2,025 pairs of tokens, and one by one 10^2 + ... + 17^2 = 1,500
    assert read() is None


def test_texts_that_share_little_are_read_one_by_one():
    apart = rows(texts=18, places=1)
    assert branched(apart.contexts, *woven(apart), 0, "cpu") is None
