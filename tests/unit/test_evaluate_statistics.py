"""Pass@k and the statistics of own samples, against enumeration and plain formulas."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opd_steps.evaluation.own_rollouts import own_statistics, repetition
from opd_steps.evaluation.pass_at_k import pass_at_k, pass_at_k_table
from opd_steps.nouns.dist import LazyCategorical
from opd_steps.nouns.trajectory import Trajectory


@pytest.mark.parametrize(
    "n, c, k, value", [(4, 1, 1, 0.25), (4, 1, 2, 0.5), (4, 1, 4, 1.0), (16, 3, 8, 0.9), (8, 0, 8, 0.0), (5, 4, 2, 1.0)]
)
def test_pass_at_k_known_values(n, c, k, value):
    assert pass_at_k(n, c, k) == pytest.approx(value, abs=1e-12)


@given(st.integers(1, 7).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_counts_the_subsets_that_hold_a_correct_sample(ncz):
    n, c, k = ncz
    subsets = list(combinations(range(n), k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(any(i < c for i in s) for s in subsets) / len(subsets))


@pytest.mark.parametrize("n, c, k", [(4, 5, 1), (4, -1, 1), (4, 1, 0), (4, 1, 5)])
def test_pass_at_k_refuses_impossible_counts(n, c, k):
    with pytest.raises(ValueError, match="pass@k"):
        pass_at_k(n, c, k)


def test_pass_at_k_table_has_powers_of_two_and_n():
    table = pass_at_k_table([0, 6, 3], 6)
    assert list(table) == ["1", "2", "4", "6"]
    assert table["1"] == pytest.approx(9 / 18) and table["6"] == pytest.approx(2 / 3)


class TablePolicy:
    """Row b takes `lengths[b]` random tokens; its distributions are rows of a fixed table of logits, by token."""

    def __init__(self, logits_VV: torch.Tensor, lengths: tuple[int, ...] = ()):
        self.logits_VV, self.lengths, self.seeds = logits_VV, lengths, []

    def rollout(self, contexts, prompt_ids, seeds, version):
        self.seeds.append(list(seeds))
        g = torch.Generator().manual_seed(0)
        actions = [torch.randint(len(self.logits_VV), (n,), generator=g) for n in self.lengths]
        ended = torch.tensor([n < max(self.lengths) for n in self.lengths])
        return Trajectory(contexts, actions, torch.tensor(list(prompt_ids)), ended_B=ended)

    def dist(self, trajectory, role="student"):
        return LazyCategorical(self.logits_VV[trajectory.action_N], None)


@pytest.mark.parametrize("micro_batch, chunk", [(64, 1024), (1, 2), (2, 3)])
def test_own_statistics_equal_the_formulas_however_they_are_cut(micro_batch, chunk):
    g = torch.Generator().manual_seed(1)
    student = TablePolicy(torch.randn(5, 5, generator=g), (4, 1, 7, 3))
    teacher = TablePolicy(torch.randn(5, 5, generator=g))
    contexts = [[0]] * 4
    found = own_statistics(student, contexts, 3, teacher, micro_batch, chunk)
    action_N = student.rollout(contexts, range(4), [], 0).action_N
    p, q = (t.logits_VV[action_N].log_softmax(-1) for t in (student, teacher))
    assert found["own/entropy"] == pytest.approx(float(torch.distributions.Categorical(logits=p).entropy().mean()), rel=1e-5)
    kl = torch.nn.functional.kl_div(q, p, log_target=True, reduction="none").sum(-1).mean()
    assert found["own/reverse_kl"] == pytest.approx(float(kl), rel=1e-5)
    assert found["own/length"] == 15 / 4 and found["own/truncated"] == 0.25
    assert len(set(student.seeds[0])) == 4


def test_repetition_by_hand_and_by_a_plain_loop():
    say = lambda *rows: [torch.tensor(row) for row in rows]
    assert repetition(say([1, 2, 3, 1, 2, 3, 1])) == pytest.approx(2 / 5)  # 123 231 312 123 231
    assert repetition(say([4] * 102)) == pytest.approx(0.99) and repetition(say([1, 2, 3], [1, 2])) == 0
    assert repetition(say([1, 2], [3])) is None
    draw = torch.Generator().manual_seed(0)
    rows = [torch.randint(3, (n,), generator=draw) for n in (0, 3, 9, 30)]
    shares = []
    for row in rows[1:]:
        grams = [tuple(row[i : i + 3].tolist()) for i in range(len(row) - 2)]
        shares.append(sum(gram in grams[:i] for i, gram in enumerate(grams)) / len(grams))
    assert repetition(rows) == pytest.approx(sum(shares) / 3) and shares[-1] > 0


def test_own_statistics_without_teacher_has_no_divergence():
    student = TablePolicy(torch.zeros(5, 5), (2, 1))
    found = own_statistics(student, [[0], [1]], 0)
    assert "own/reverse_kl" not in found
    assert found["own/entropy"] == pytest.approx(torch.tensor(5.0).log().item(), rel=1e-6)
