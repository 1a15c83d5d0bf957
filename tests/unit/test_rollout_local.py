"""The local engine: its log-probs are the model's, greedy is generate's, and a row depends on its own seed alone."""

from __future__ import annotations

import pytest
import torch

from opd_steps.rollout import lean as lean_module
from opd_steps.rollout import local
from opd_steps.rollout.lean import Plain
from opd_steps.rollout.local import decode, sample
from tests.unit.tiny import qwen

CONTEXTS = [[3, 4, 5, 6][: 1 + i % 4] for i in range(9)]
ARGS = {"max_new_tokens": 8, "ends": [23], "pad_id": 22}


def test_greedy_is_generate():
    model = qwen()
    tokens, _, ended = decode(model, CONTEXTS, range(9), temperature=0.0, **ARGS)
    for context, row, stopped in zip(CONTEXTS, tokens, ended, strict=True):
        out = model.generate(torch.tensor([context]), max_new_tokens=8, do_sample=False, eos_token_id=23, pad_token_id=22)
        assert out[0, len(context) :].tolist() == row.tolist()
        assert stopped == (row[-1] == 23)


def test_log_probs_are_the_models_own():
    model = qwen()
    tokens, logp, _ = decode(model, CONTEXTS, range(9), temperature=0.7, vocab=20, **ARGS)
    for context, row, found in zip(CONTEXTS, tokens, logp, strict=True):
        logits = model(torch.tensor([context + row.tolist()])).logits[0, len(context) - 1 : -1, :20]
        expected = torch.log_softmax(logits / 0.7, -1).gather(-1, row[:, None])[:, 0]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_row_depends_on_its_own_seed_not_on_its_batch():
    model, seeds = qwen(), list(range(100, 109))
    whole, logp, _ = decode(model, CONTEXTS, seeds, **ARGS)
    for batch in (1, 4):
        part, part_logp, _ = decode(model, CONTEXTS, seeds, batch=batch, **ARGS)
        assert [t.tolist() for t in part] == [t.tolist() for t in whole]
        for a, b in zip(logp, part_logp, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    other, _, _ = decode(model, CONTEXTS, [s + 1 for s in seeds], **ARGS)
    assert [t.tolist() for t in other] != [t.tolist() for t in whole]


def test_sampling_follows_the_distribution():
    logits = torch.tensor([[2.0, 0.0, 1.0, -1.0]]).expand(200_000, 4)
    uniform = torch.rand(200_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    token, logp = sample(logits, uniform, 0.8)
    expected = torch.softmax(logits[0] / 0.8, -1)
    torch.testing.assert_close(torch.bincount(token) / 200_000, expected, rtol=0.02, atol=1e-3)
    torch.testing.assert_close(logp[:50].exp(), expected[token[:50]])


def test_top_p_keeps_the_smallest_sufficient_set():
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]])).expand(5000, 4)
    token, logp = sample(logits, torch.rand(5000, dtype=torch.float64), 1.0, top_p=0.7)
    assert set(token.tolist()) == {0, 1}
    torch.testing.assert_close(logp.exp(), torch.tensor([0.625, 0.375])[token])


def test_top_k_keeps_the_likeliest_and_top_p_acts_on_these():
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]])).expand(5000, 4)
    uniform = torch.rand(5000, dtype=torch.float64)
    token, logp = sample(logits, uniform, 1.0, top_k=2)
    assert set(token.tolist()) == {0, 1}
    torch.testing.assert_close(logp.exp(), torch.tensor([0.625, 0.375])[token])
    assert set(sample(logits, uniform, 1.0, top_p=0.62, top_k=2)[0].tolist()) == {0}  # .625 of what is left
    assert set(sample(logits, uniform, 1.0, top_p=0.62)[0].tolist()) == {0, 1}
    assert sample(logits, uniform, 1.0, top_k=4)[0].equal(sample(logits, uniform, 1.0)[0])


def test_rows_end_at_their_first_end_token_while_others_go_on():
    model, args = qwen(tie=False), ARGS | {"ends": [3], "max_new_tokens": 20, "vocab": 8}
    torch.nn.init.zeros_(model.lm_head.weight)  # each token, the end token too, has probability 1/8
    contexts = [[4, 5 + i % 7] for i in range(40)]
    whole, _, ended = decode(model, contexts, range(40), **args)
    lengths = {len(row) for row in whole}
    assert len(lengths) > 4  # they do end at different times
    for row, stopped in zip(whole, ended, strict=True):
        assert 3 not in row[:-1].tolist()
        assert stopped == (row[-1] == 3)
    alone = [decode(model, [c], [i], **args)[0][0].tolist() for i, c in enumerate(contexts)]
    assert alone == [row.tolist() for row in whole]


def test_drawing_in_blocks_is_drawing(monkeypatch):
    """The same tokens as by the whole cumulative sum, also where most have no mass; their log-probs are the model's."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3000, 1000, generator=generator) * 3
    logits[:, ::2] = -torch.inf
    uniform = torch.rand(3000, dtype=torch.float64, generator=generator)
    uniform[:2] = torch.tensor([0.0, 1 - 2.0**-53])
    whole = sample(logits, uniform, 0.9)
    monkeypatch.setattr(local, "LARGE", 10)
    monkeypatch.setattr(local, "BLOCK", 64)  # the last one is not full
    token, logp = sample(logits, uniform, 0.9)
    assert (token == whole[0]).float().mean() > 0.999  # a uniform number on a boundary falls to either side
    assert torch.isfinite(logp).all()
    torch.testing.assert_close(logp, torch.log_softmax(logits / 0.9, -1).gather(-1, token[:, None])[:, 0], rtol=1e-4, atol=1e-5)


def test_rows_that_are_dropped_on_the_way_keep_their_own_tokens():
    """Two thirds of the rows end early: what the others sample is what each samples alone."""
    model, args = qwen(tie=False), ARGS | {"ends": [3], "max_new_tokens": 30, "vocab": 8}
    with torch.no_grad():
        model.lm_head.weight.mul_(0.02)
    contexts = [[4 + i % 3] * (1 + i % 2) for i in range(30)]
    tokens, logp, _ = decode(model, contexts, range(30), **args)
    for i in (0, 7, 29):
        (alone,), (alone_logp,), _ = decode(model, [contexts[i]], [i], **args)
        assert tokens[i].tolist() == alone.tolist()
        torch.testing.assert_close(logp[i], alone_logp, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lean", [True, False])
def test_samples_of_one_prompt_read_it_once(lean, monkeypatch):
    if not lean:
        monkeypatch.setattr(local, "decoder_for", lambda model, new: Plain(model))
    model, read = qwen(), []
    contexts, seeds = [CONTEXTS[i] for i in (0, 3, 3, 0, 2, 3)], [5, 6, 7, 8, 9, 6]
    alone = [decode(model, [c], [s], **ARGS) for c, s in zip(contexts, seeds, strict=True)]
    model.model.register_forward_pre_hook(lambda _, args, given: read.append(len(given["input_ids"])), with_kwargs=True)
    monkeypatch.setattr(lean_module, "unknown", lambda model: "")  # a hook by itself keeps a model from the lean path
    tokens, logp, ended = decode(model, contexts, seeds, **ARGS)
    assert read[0] == 3
    assert [t.tolist() for t in tokens] == [one[0][0].tolist() for one in alone]
    assert ended == [one[2][0] for one in alone]
    for found, one in zip(logp, alone, strict=True):
        torch.testing.assert_close(found, one[1][0], rtol=1e-4, atol=1e-5)
    assert tokens[1].tolist() == tokens[5].tolist() != tokens[2].tolist()
