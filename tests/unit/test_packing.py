"""Rows read one behind the other, and passes of so many tokens: gradients and figures are those of padded rows in one pass."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from opd_steps.loop.objective import Objective
from opd_steps.loop.passes import Tokens, passes
from opd_steps.models import packing
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.models.numerics import Numerics, recompute_blocks
from opd_steps.nouns.heard import read_over
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.process import ranks
from tests.unit.tiny import FakeTokenizer, method

VOCAB = 64
SMALL = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
}
TYPES = {
    "qwen3": SMALL,
    "qwen2": SMALL,
    "llama": SMALL,
    "qwen3_moe": SMALL | {"moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2},
    "mistral": SMALL | {"sliding_window": None},
    "gpt2": {"vocab_size": VOCAB, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "initializer_range": 0.3},
    "gpt_neox": SMALL,
}
WIDE = {"signal": "rkl", "support": "full", "estimator": "exact", "weight": [{"name": "tip", "share": 0.5}, "balance"]}


def model(kind: str = "qwen3", seed: int = 0, attention: str = "sdpa", **changes) -> PreTrainedModel:
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(
        AutoConfig.for_model(kind, **TYPES[kind] | changes), attn_implementation=attention
    ).eval()


def policy(packed: bool, recompute: bool = False, dtype: torch.dtype = torch.float64, **how) -> LMPolicy:
    """In fp64, in which no order of additions shows."""
    made = model(**how).to(dtype)
    if recompute:
        recompute_blocks(made)
    found = LMPolicy(made, FakeTokenizer(VOCAB), numerics=Numerics(packed=packed))
    found.compute = dtype
    return found


def rows(count: int = 9) -> Trajectory:
    """Ragged ones; some have heard others, and the teacher sees more than the student."""
    generator = torch.Generator().manual_seed(1)
    draw = lambda n: torch.randint(1, VOCAB - 2, (n,), generator=generator)
    made = Trajectory(
        [draw(2 + i % 3).tolist() for i in range(count)],
        [draw(3 + 5 * i % 17) for i in range(count)],
        torch.arange(count) % 4,
        logp=[-torch.rand(3 + 5 * i % 17, generator=generator) for i in range(count)],
        reward_B=(torch.arange(count) % 3 == 0).float(),
        heard=[torch.tensor([[1, 7], [2, 9]])[: i % 3] for i in range(count)],
    )
    return made.with_context("teacher", [draw(1 + 4 * i % 9).tolist() for i in range(count)])


def backward(student: LMPolicy, size: int | Tokens = 64, what: dict = WIDE) -> tuple[dict, dict]:
    """(figures, gradients) with a column by row, and a teacher that reads as the student does."""
    teacher = policy(student.numerics.packed, dtype=student.compute, seed=1)
    batch = rows()
    columns = {"outcome": torch.linspace(-1, 1, len(batch))}
    stats = Objective.from_method(method(**what), 32).backward(student, batch, columns, {"teacher": teacher}, size)
    return stats, {name: p.grad for name, p in student.model.named_parameters()}


def require_same(found: tuple[dict, dict], expected: tuple[dict, dict], within: float = 1e-10) -> None:
    """Of weights of like size: a bias of keys, say, has no gradient but for noise."""
    assert found[0] == pytest.approx(expected[0], rel=1e-6, abs=1e-7)
    assert found[1].keys() == expected[1].keys()
    whole = torch.cat([grad.flatten() for grad in expected[1].values()]).norm()
    assert whole > 0.01
    for name, grad in expected[1].items():
        assert (found[1][name] - grad).norm() <= within * whole, name


@pytest.mark.parametrize("kind", TYPES)
def test_unpadded_rows_have_the_gradient_of_padded_ones(kind):
    how = {"kind": kind}
    if kind == "qwen3_moe":  # grouped products know no fp64
        how["dtype"] = torch.float32
    within = 1e-10 if len(how) == 1 else 1e-6
    require_same(*(backward(policy(packed, **how)) for packed in (True, False)), within)


def test_in_fp32_within_a_millionth():
    require_same(*(backward(policy(packed, dtype=torch.float32)) for packed in (True, False)), 1e-6)


def test_recomputed_blocks():
    require_same(backward(policy(True, recompute=True)), backward(policy(False)))


def test_kept_apart_by_a_mask():
    """The way of any other implementation; eager attention has its softmax in fp32."""
    require_same(*(backward(policy(packed, attention="eager")) for packed in (True, False)), 1e-6)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("most", [1, 40, 70])
@pytest.mark.parametrize("what", [WIDE, {"signal": "outcome"}], ids=["whole batch", "columns"])
def test_passes_of_so_many_tokens_have_the_gradient_of_one(packed, most, what):
    require_same(backward(policy(packed), Tokens(most, packed), what), backward(policy(False), what=what))


def test_no_token_is_padding():
    who, seen = policy(True), []
    who.model.get_input_embeddings().register_forward_hook(lambda _, args, out: seen.append(args[0].shape))
    who.dist(rows(), "student")
    own = sum(len(c) + len(a) + len(h) - 1 for c, a, h in zip(rows().contexts, rows().actions, rows().heard, strict=True))
    assert seen == [(1, own)]


def test_attention_sees_no_mask_of_all_tokens(monkeypatch):
    """Nor does it work on pairs of tokens of different rows."""
    seen = []
    plain = packing.sdpa_attention_forward

    def watched(module, query, key, value, mask, **how):
        seen.append((query.shape[0], query.shape[2], mask))
        return plain(module, query, key, value, mask, **how)

    monkeypatch.setattr(packing, "sdpa_attention_forward", watched)
    policy(True).dist(rows())
    longest = max(len(c) + len(a) + len(h) - 1 for c, a, h in zip(rows().contexts, rows().actions, rows().heard, strict=True))
    assert seen == [(9, longest, None)] * 2


def test_samples_are_the_same_bits():
    made = [policy(packed).rollout([[1, 2, 3], [4, 5]], range(2), range(2)) for packed in (False, True)]
    assert all(torch.equal(a, b) for a, b in zip(made[0].logp, made[1].logp, strict=True))


@pytest.mark.parametrize(
    ("kind", "changes", "says"),
    [
        ("mistral", {"sliding_window": 8}, "rows of MistralForCausalLM with layers of sliding_attention are padded"),
        (
            "qwen3",
            {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
            "with layers of sliding_attention",
        ),
    ],
)
def test_what_cannot_be_packed_is_padded_and_the_log_says_so(kind, changes, says, capsys):
    who = policy(True, kind=kind, **changes)
    assert says in capsys.readouterr().out
    require_same(backward(who), backward(policy(False, kind=kind, **changes)))


def test_an_unknown_architecture_is_padded(capsys):
    LMPolicy(
        AutoModelForCausalLM.from_config(AutoConfig.for_model("olmo2", **SMALL)),
        FakeTokenizer(VOCAB),
        numerics=Numerics(packed=True),
    )
    assert "rows of a Olmo2ForCausalLM are padded: packed is for Qwen3, " in capsys.readouterr().out


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("most", [1, 20, 33, 1000])
@pytest.mark.parametrize("packed", [True, False])
def test_passes_of_all_ranks_are_the_batch(monkeypatch, count, most, packed):
    batch, length = rows(), read_over(rows())
    monkeypatch.setattr(ranks, "world", lambda: count)
    made = []
    for k in range(count):
        monkeypatch.setattr(ranks, "rank", lambda k=k: k)
        made.append(passes(batch, Tokens(most, packed)))
    orders, slices = zip(*made, strict=True)
    assert all(order == orders[0] for order in orders) and sorted(orders[0]) == list(range(len(batch)))
    assert len({len(mine) for mine in slices}) == 1  # each is a collective
    flat = [s for mine in slices for s in mine]
    assert [i for s in flat for i in range(s.start, s.stop)] == list(range(len(batch)))
    for s in flat:
        mine = [length[i] for i in orders[0][s]]
        taken = sum(mine) if packed else len(mine) * max(mine, default=0)
        assert taken <= most or len(mine) == 1
        assert mine == sorted(mine, reverse=True)
    alone = [s for s in flat if s.start < s.stop]
    assert count > 1 or sum(length) <= most or len(alone) < len(batch) or most < 2 * min(length)
