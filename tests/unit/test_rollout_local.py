"""The local engine: its log-probs are the model's, greedy is generate's, and a row depends on its own seed alone."""

from __future__ import annotations

import torch

from opd_steps.rollout.local import decode, sample
from tests.unit.tiny import qwen

CONTEXTS = [[3, 4, 5, 6][: 1 + i % 4] for i in range(9)]
ARGS = {"max_new_tokens": 8, "eos_id": 23, "pad_id": 22}


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


def test_rows_end_at_their_first_end_token_while_others_go_on():
    model, args = qwen(tie=False), ARGS | {"eos_id": 3, "max_new_tokens": 20, "vocab": 8}
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
