"""vLLM in the trainer's process: what it samples and scores, before and after new weights, against transformers."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from opd_steps.errors import UserError
from opd_steps.models.folder import where
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.process import kv
from opd_steps.rollout.local import decode
from opd_steps.rollout.vllm_engine import VllmEngine
from opd_steps.rollout.vllm_student import VllmStudent
from tests.vllm.conftest import SMALL, engine_options, moved, policy_of, prompts

CLOSE = 1e-4  # nats: both compute in fp32, in another order


@pytest.fixture(scope="module", params=["tied", "untied"])
def pair(request, checkpoints):
    """(the model in torch, the model in vLLM); tests may move the weights of both."""
    policy = policy_of(checkpoints[request.param])
    engine = VllmEngine(where(checkpoints[request.param]), engine_options(), "float32", policy.ends, True, -1)
    yield policy, engine
    engine.close()


def torch_logp(policy, contexts, actions, temperature: float = 1.0) -> torch.Tensor:
    """[N, V] of the torch model at all tokens of `actions`."""
    policy.temperature = temperature
    dist = policy.dist(Trajectory(contexts, actions, torch.arange(len(actions))))
    return dist.chunk(0, len(dist)).logp_NV


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probs_of_samples_are_those_of_transformers(pair, temperature):
    policy, engine = pair
    contexts = prompts(40, policy.vocab)
    tokens, logp, ended = engine.generate(contexts, range(40), max_new_tokens=24, temperature=temperature, top_p=1.0)
    expected_NV = torch_logp(policy, contexts, tokens, temperature)
    found_N = torch.cat(logp)
    assert float((expected_NV.gather(-1, torch.cat(tokens)[:, None])[:, 0] - found_N).abs().max()) < CLOSE
    assert ended == [row[-1].item() in policy.ends for row in tokens]
    assert all(end or len(row) == 24 for end, row in zip(ended, tokens, strict=True))
    assert len(found_N) > 300


def test_any_of_several_end_tokens_ends_a_row(pair, monkeypatch):
    """Greedy rows are those of one end token, cut at the first of several; both engines cut alike."""
    policy, engine = pair
    contexts, asked = prompts(20, policy.vocab), {"max_new_tokens": 24, "temperature": 0.0, "top_p": 1.0}
    whole, *_ = engine.generate(contexts, range(20), **asked)
    ends = [*policy.ends, *{int(row[len(row) // 2]) for row in whole[:3]}]
    monkeypatch.setattr(engine, "ends", ends)
    rows, _, ended = engine.generate(contexts, range(20), **asked)
    local, _, local_ended = decode(policy.model, contexts, range(20), **asked, ends=ends, pad_id=0, vocab=policy.vocab)
    for all_T, row, stopped in zip(whole, rows, ended, strict=True):
        at = next((i for i, token in enumerate(all_T.tolist()) if token in ends), None)
        assert row.tolist() == (all_T.tolist() if at is None else all_T.tolist()[: at + 1]) and stopped == (at is not None)
    assert ([row.tolist() for row in local], local_ended) == ([row.tolist() for row in rows], ended)
    assert sum(ended) >= 3


@pytest.mark.parametrize("name", ["vllm", "server"])
def test_stop_strings_end_rows_where_the_local_engine_ends_them(checkpoints, name, tmp_path):
    """Greedy rows, token for token; also those that an engine gives, before anybody cuts them."""
    place, how = checkpoints["tied"], {"max_new_tokens": 24, "temperature": 0.0}
    policy = policy_of(place, **how)
    contexts = prompts(40, policy.vocab)
    texts = [policy.tokenizer.decode(row) for row in policy.rollout(contexts, range(40), range(40)).actions]
    pairs = [text[k : k + 2] for text in texts for k in range(3, len(text) - 1)]
    stop = [pair for pair in dict.fromkeys(pairs) if pair.isascii()][::3]
    policy = policy_of(place, **how, stop=stop)
    expected = policy.rollout(contexts, range(40), range(40))
    said = [text for text in expected.stop if text]
    assert 3 < len(said) < 40 and all(text.startswith(tuple(stop)) for text in said) and len({*expected.length_B.tolist()}) > 3
    options = engine_options(name=name)
    if name == "server":
        engine = VllmStudent(where(place), options, "float32", policy.ends, tmp_path / "log", stops=len(stop))
    else:
        engine = VllmEngine(where(place), options, "float32", policy.ends, stops=len(stop))
    tokens, logp, ended = engine.generate(contexts, range(40), **how, top_p=1.0, stop=stop)
    policy.engine = engine
    rows = policy.rollout(contexts, range(40), range(40))
    engine.own.end() if name == "server" else engine.close()
    assert [row.tolist() for row in rows.actions] == [row.tolist() for row in expected.actions]
    assert rows.ended_B.equal(expected.ended_B) and rows.stop == expected.stop
    assert float((rows.logp_N - expected.logp_N).abs().max()) < CLOSE
    early = policy.stops.early(tokens, ended, policy.ends)  # of prompts that end within a character
    assert 0 < len(early) < 8 and [len(p) for p in logp] == [len(row) for row in tokens]
    assert all(said.equal(row) for i, (said, row) in enumerate(zip(tokens, rows.actions, strict=True)) if i not in early)


def test_samples_follow_the_distribution(pair):
    """First tokens of 2,000 samples of one prompt against the model's probabilities: a chi-square over its likely tokens."""
    policy, engine = pair
    context = prompts(1, policy.vocab)[0]
    tokens, *_ = engine.generate([context] * 2000, range(2000), max_new_tokens=1, temperature=1.0, top_p=1.0)
    p_V = torch_logp(policy, [context], [tokens[0]])[0].exp().double()
    count_V = torch.bincount(torch.cat(tokens), minlength=len(p_V)).double()
    likely = p_V > 5 / 2000
    rest = (2000 * p_V[~likely].sum(), count_V[~likely].sum())
    observed, expected = torch.cat([count_V[likely], rest[1][None]]), torch.cat([2000 * p_V[likely], rest[0][None]])
    chi2, freedom = float(((observed - expected) ** 2 / expected).sum()), len(observed) - 1
    assert freedom > 3 and chi2 < freedom + 4 * (2 * freedom) ** 0.5  # four standard deviations


def test_greedy_tokens_are_those_of_the_local_engine(pair):
    policy, engine = pair
    contexts = prompts(20, policy.vocab)
    tokens, logp, _ = engine.generate(contexts, range(20), max_new_tokens=24, temperature=0.0, top_p=1.0)
    policy.temperature, policy.max_new_tokens = 0.0, 24
    local = policy.rollout(contexts, range(20), range(20))
    assert all(torch.equal(a, b) for a, b in zip(tokens, local.actions, strict=True))
    assert float((torch.cat(logp) - local.logp_N).abs().max()) < CLOSE


@pytest.mark.parametrize("size", [1, 7, 64])
def test_a_row_depends_on_its_seed_and_not_on_its_batch(pair, size):
    policy, engine = pair
    contexts = prompts(64, policy.vocab)
    sampling = {"max_new_tokens": 16, "temperature": 1.0, "top_p": 1.0}
    whole = engine.generate(contexts, range(64), **sampling)
    for at in range(0, 64 if size > 1 else 8, size):
        part = engine.generate(contexts[at : at + size], range(at, min(at + size, 64)), **sampling)
        for one, other in zip(part[0] + part[1], whole[0][at : at + size] + whole[1][at : at + size], strict=True):
            assert torch.equal(one, other)
    other_seeds = engine.generate(contexts, range(64, 128), **sampling)
    assert sum(torch.equal(a, b) for a, b in zip(whole[0], other_seeds[0], strict=True)) < 16


@pytest.mark.parametrize("k", [0, 5, -1])
def test_scores_of_given_rows(pair, k):
    """Ragged rows, scored from their answers on: the tokens', the k likeliest, the whole vocabulary."""
    policy, engine = pair
    contexts = prompts(12, policy.vocab)
    actions = [torch.from_numpy(np.random.default_rng(i).integers(0, 200, 1 + i)) for i in range(12)]
    rows = [c + a.tolist() for c, a in zip(contexts, actions, strict=True)]
    logp, ids, best = engine.score(rows, [len(c) for c in contexts], k)
    expected_NV = torch_logp(policy, contexts, actions)
    assert [len(x) for x in logp] == [len(a) for a in actions]
    assert float((torch.cat(logp) - expected_NV.gather(-1, torch.cat(actions)[:, None])[:, 0]).abs().max()) < CLOSE
    ids_NK, best_NK = torch.cat(ids), torch.cat(best)
    assert ids_NK.shape[1] == (k if k >= 0 else expected_NV.shape[1])
    if k:
        assert float((expected_NV.gather(-1, ids_NK) - best_NK).abs().max()) < CLOSE
        assert float((expected_NV.topk(ids_NK.shape[1]).values - best_NK).abs().max()) < CLOSE  # no likelier one is left out


def test_no_row_is_cut(pair):
    """The last token that fits is scored, and one that may not fit is refused."""
    policy, engine = pair
    assert engine.limit == SMALL["max_model_len"]
    row = np.random.default_rng(1).integers(0, 200, engine.limit).tolist()
    expected_NV = torch_logp(policy, [row[:1]], [torch.tensor(row[1:])])
    logp, *_ = engine.score([row], [1], 0)
    assert float((logp[0] - expected_NV.gather(-1, torch.tensor(row[1:])[:, None])[:, 0]).abs().max()) < CLOSE
    sampling = {"temperature": 1.0, "top_p": 1.0}
    assert len(engine.generate([row[:-3]], [0], max_new_tokens=3, **sampling)[0][0]) in (1, 2, 3)
    with pytest.raises(
        UserError, match=rf"engine.max_model_len: .* {engine.limit + 1} tokens, the engine takes {engine.limit}"
    ):
        engine.generate([row[:-3]], [0], max_new_tokens=4, **sampling)


def test_how_full_its_cache_was_is_seen(pair, monkeypatch):
    """Of rollouts alone: 8 rows of 100 to 131 tokens, side by side; each block of the cache is of one row, but the first is nobody's."""
    _, engine = pair
    monkeypatch.setattr(kv, "sampling", kv.Cache())
    contexts = [np.random.default_rng(i).integers(0, 200, 100).tolist() for i in range(8)]
    engine.score(contexts, [1] * 8, 0)
    assert kv.sampling.most == 0
    made, *_ = engine.generate(contexts, range(8), max_new_tokens=32, temperature=1.0, top_p=1.0)
    cache = engine.llm.llm_engine.vllm_config.cache_config
    blocks = sum(-(-(100 + len(row)) // cache.block_size) for row in made) / (cache.num_gpu_blocks - 1)
    assert 0 < kv.sampling.most <= blocks and kv.sampling.most >= blocks / 2
    assert kv.sampling.preempted == 0


def test_requests_that_lose_their_place_are_counted(checkpoints, monkeypatch):
    """A cache that holds few of its rows at their full length."""
    policy = policy_of(checkpoints["tied"])
    monkeypatch.setattr(kv, "sampling", kv.Cache())
    engine = VllmEngine(where(checkpoints["tied"]), engine_options(kv_cache_mb=1), "float32", policy.ends)
    engine.ends = []
    contexts = [np.random.default_rng(i).integers(0, 200, 20).tolist() for i in range(40)]
    engine.generate(contexts, range(40), max_new_tokens=200, temperature=1.0, top_p=1.0)
    engine.close()
    assert kv.sampling.preempted > 0 and 0.8 < kv.sampling.most <= 1


def test_new_weights_again_and_again(pair):
    policy, engine = pair
    contexts = prompts(16, policy.vocab)
    sampling = {"max_new_tokens": 12, "temperature": 1.0, "top_p": 1.0}
    before = engine.generate(contexts, range(16), **sampling)
    for step in (1, 2, 3):
        moved(policy.model, step)
        engine.sync(policy.model, step)
        assert engine.version == step and engine.llm.get_weight_version() == str(step)
        tokens, logp, _ = engine.generate(contexts, range(16), **sampling)
        expected_NV = torch_logp(policy, contexts, tokens)
        assert float((expected_NV.gather(-1, torch.cat(tokens)[:, None])[:, 0] - torch.cat(logp)).abs().max()) < CLOSE
    assert float((torch.cat(before[1])[:8] - torch.cat(logp)[:8]).abs().max()) > 0.01  # they are new


def test_the_trainers_random_numbers_are_not_touched(pair):
    policy, engine = pair
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    engine.generate(prompts(4, policy.vocab), range(4), max_new_tokens=4, temperature=1.0, top_p=1.0)
    engine.sync(policy.model, 7)
    assert torch.equal(states[0], torch.get_rng_state()) and states[1] == random.getstate()
    assert (states[2] == np.random.get_state()[1]).all()


def test_a_policy_sends_its_weights_when_they_are_others(pair, monkeypatch):
    """Once a version: samples of one version ask for no second update."""
    policy, engine = pair
    sent = []
    sync = engine.sync
    monkeypatch.setattr(engine, "sync", lambda model, version: (sent.append(version), sync(model, version)))
    policy.temperature, policy.max_new_tokens, policy.engine = 1.0, 8, engine
    for version in (20, 20, 21, 21):
        rows = policy.rollout(prompts(3, policy.vocab), range(3), range(3), version)
        assert rows.version_B.tolist() == [version] * 3
    policy.engine = None
    assert sent == [20, 21]


def test_a_stale_prefix_cache_is_seen(pair, monkeypatch):
    """What the old weights computed for a prefix must be forgotten with them."""
    policy, engine = pair
    assert engine.gap(policy.model) < CLOSE  # the fixed sequence is in the cache now
    moved(policy.model, 30)
    with monkeypatch.context() as patch:
        patch.setattr(engine.llm, "reset_prefix_cache", lambda: None)
        with pytest.raises(UserError, match="differ from the trainer's by up to"):
            engine.sync(policy.model, 30)
    engine.sync(policy.model, 31)
    assert engine.gap(policy.model) < CLOSE


def test_an_update_without_the_head(pair, checkpoints, monkeypatch):
    """A tied checkpoint names no head, and vLLM would keep the old one: seen at once, and nothing is answered."""
    policy, engine = pair
    moved(policy.model, 40)
    monkeypatch.setattr(engine, "weights", lambda model: dict(model.named_parameters()))
    if not policy.model.config.tie_word_embeddings:
        monkeypatch.setattr(
            engine, "weights", lambda model: {n: w for n, w in model.state_dict().items() if "lm_head" not in n}
        )
    with pytest.raises(UserError, match=r"after the weights of step 41 .* differ .* fixed sequence \(tolerance 0\.001\)"):
        engine.sync(policy.model, 41)
    with pytest.raises(RuntimeError, match="not completed"):
        engine.generate(prompts(1, policy.vocab), [0], max_new_tokens=2, temperature=1.0, top_p=1.0)
    monkeypatch.undo()
    engine.sync(policy.model, 42)  # a whole update mends it
    assert engine.gap(policy.model) < CLOSE
