"""Batched decoding on the torch model itself: every row samples from its own seed, whatever batch it is in."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from opd_steps.process.heap import kept_chunks
from opd_steps.rollout.lean import Plain, decoder_for
from opd_steps.rollout.stops import Growing, Stops
from opd_steps.seeds import rng

BELOW_ONE = 1 - 2.0**-52  # times it, no rounding takes a share of the whole to the whole
LARGE, BLOCK = 8192, 512  # vocabulary above which tokens are drawn in blocks, and how many tokens a block has


@torch.no_grad()
def decode(
    model: PreTrainedModel,
    contexts: Sequence[Sequence[int]],
    seeds: Sequence[int],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = 0,
    ends: Sequence[int],
    pad_id: int,
    vocab: int | None = None,
    batch: int = 256,
    companion: tuple[PreTrainedModel, float] | None = None,
    decoder: Callable[[PreTrainedModel, int], Plain] = decoder_for,
    stops: Stops | None = None,
) -> tuple[list[Tensor], list[Tensor], list[bool]]:
    """Continue every context until one of the end tokens `ends`, a string of `stops` or `max_new_tokens`; temperature 0 is greedy.

    Returns per row the new ids [T] (end token included), their log-probs [T] (fp32) under the distribution that was
    sampled from, and whether the row ended by itself. Row i's tokens depend on its context and seeds[i] alone.
    `companion` (another model, share): every token is sampled from share * its distribution + (1 - share) * the model's.
    `decoder`: what makes logits of one token after the other.
    """
    was_training = model.training
    model.eval()
    out: list = [None] * len(contexts)
    order = sorted(range(len(contexts)), key=lambda i: len(contexts[i]))  # rows of like length pad little
    for start in range(0, len(order), batch):
        picks = order[start : start + batch]
        args = (max_new_tokens, temperature, top_p, top_k, ends, pad_id, vocab, decoder, stops)
        mixed = [(model, 1.0)] if companion is None else [(model, 1 - companion[1]), companion]
        rows = _decode_batch(mixed, [contexts[i] for i in picks], [seeds[i] for i in picks], *args)
        for i, row in zip(picks, rows, strict=True):
            out[i] = row
    model.train(was_training)
    return [r[0] for r in out], [r[1] for r in out], [r[2] for r in out]


def _decode_batch(mixed, contexts, seeds, max_new_tokens, temperature, top_p, top_k, ends, pad_id, vocab, decoder, stops):
    device = mixed[0][0].device
    ends_E = torch.tensor(list(ends), device=device)
    width = max(map(len, contexts))
    place: dict[tuple[int, ...], int] = {}  # samples of one prompt read it once
    prompt_B = torch.tensor([place.setdefault(tuple(c), len(place)) for c in contexts], device=device)
    ids = torch.tensor([[pad_id] * (width - len(c)) + list(c) for c in place], device=device)
    mask_BL = torch.tensor([[0] * (width - len(c)) + [1] * (len(c) + max_new_tokens) for c in place], device=device)
    positions = (mask_BL[:, :width].cumsum(-1) - 1).clamp(min=0)
    padded = any(len(c) < width for c in contexts)
    uniform_BT = torch.from_numpy(np.stack([rng(s).random(max_new_tokens) for s in seeds])).to(device) if temperature else None

    growing = Growing(stops, len(contexts)) if stops else None
    decoders = [decoder(model, max_new_tokens) for model, _ in mixed]
    alive = torch.arange(len(contexts), device=device)  # original row of each row still decoded
    ended_B = torch.zeros(len(contexts), dtype=torch.bool, device=device)
    tokens_BT = torch.full((len(contexts), max_new_tokens), pad_id, device=device)
    logp_BT = torch.zeros((len(contexts), max_new_tokens), device=device)
    new = []  # (tokens, log-probs) of the rows alive, a pair a step, since rows were dropped last
    for t in range(max_new_tokens):
        seen = mask_BL[:, : width + t] if padded else None
        each = [decode_on(ids, positions, seen)[:, :vocab] for decode_on in decoders]
        if not t and len(place) < len(contexts):
            for decoder in decoders:
                decoder.select(prompt_B)
            each, mask_BL, positions = [x[prompt_B] for x in each], mask_BL[prompt_B], positions[prompt_B]
        logits_BV = each[0] if len(each) == 1 else _mixture(each, [share for _, share in mixed], temperature)
        new.append(sample(logits_BV, uniform_BT[:, t] if temperature else None, temperature, top_p, top_k))
        token_B = new[-1][0]
        ended_B |= torch.isin(token_B, ends_E)  # an ended row may decode on for a while; nobody looks at it
        if growing:
            ended_B = growing.add(alive, token_B, ended_B)
        left = len(ended_B) - int(ended_B.sum())
        thin = left <= 0.75 * len(alive)  # so few that dropping the others pays for the copy
        if thin or t == max_new_tokens - 1:
            tokens_BT[alive, t + 1 - len(new) : t + 1] = torch.stack([token for token, _ in new], 1)
            logp_BT[alive, t + 1 - len(new) : t + 1] = torch.stack([logp for _, logp in new], 1)
            new = []
        if not left:
            break
        if thin:
            keep = (~ended_B).nonzero()[:, 0]
            for decoder in decoders:
                decoder.select(keep)
            alive, token_B, mask_BL, positions, ended_B = (x[keep] for x in (alive, token_B, mask_BL, positions, ended_B))
            uniform_BT = uniform_BT[keep] if temperature else None
        ids, positions = token_B[:, None], positions[:, -1:] + 1
    tokens_BT, logp_BT = tokens_BT.cpu(), logp_BT.cpu()
    at_end_BT = torch.isin(tokens_BT, ends_E.cpu())
    for row, count in growing.ends.items() if growing else ():
        at_end_BT[row, count - 1] = True
    ended = at_end_BT.any(-1).tolist()
    lengths = torch.where(at_end_BT.any(-1), at_end_BT.int().argmax(-1) + 1, max_new_tokens).tolist()
    return [(tokens_BT[b, :n].clone(), logp_BT[b, :n].clone(), ended[b]) for b, n in enumerate(lengths)]


def _mixture(each_BV: list[Tensor], shares: list[float], temperature: float) -> Tensor:
    """Logits whose softmax at `temperature` is the mixture of the models' distributions at that temperature."""
    logp = [torch.log_softmax(x.float() / (temperature or 1.0), -1) + math.log(s) for x, s in zip(each_BV, shares, strict=True)]
    return torch.stack(logp).logsumexp(0) * (temperature or 1.0)


@kept_chunks()
def sample(
    logits_BV: Tensor, uniform_B: Tensor | None, temperature: float, top_p: float = 1.0, top_k: int = 0
) -> tuple[Tensor, Tensor]:
    """(token, its log-prob) by inverse CDF: the first token whose cumulative probability exceeds `uniform_B`; greedy without it.

    The log-prob is of the distribution sampled from (temperature, then top-k, then top-p applied, as vLLM does); of the plain one when
    greedy.
    """
    logits_BV = logits_BV.float()
    if uniform_B is None:
        token_B = logits_BV.argmax(-1)
        return token_B, _at(logits_BV, token_B) - logits_BV.logsumexp(-1)
    if temperature != 1.0:
        logits_BV = logits_BV / temperature
    if 0 < top_k < logits_BV.shape[-1]:
        least_B1 = logits_BV.topk(top_k).values[:, -1:]  # equals of the last one stay, as in vLLM
        logits_BV = logits_BV.masked_fill(logits_BV < least_B1, -torch.inf)
    if top_p < 1.0:
        logits_BV = _nucleus(logits_BV, top_p)
    if logits_BV.shape[-1] > LARGE:
        return _sample_in_blocks(logits_BV, uniform_B.double())
    logp_BV = torch.log_softmax(logits_BV, -1)
    token_B = _inverse_cdf(logp_BV.double().exp(), uniform_B.double())
    return token_B, _at(logp_BV, token_B)


def _nucleus(logits_BV: Tensor, top_p: float) -> Tensor:
    """-inf outside the smallest set of likeliest tokens whose mass reaches `top_p`."""
    sorted_BV, ids_BV = logits_BV.log_softmax(-1).sort(-1, descending=True)
    outside_BV = sorted_BV.exp().cumsum(-1) - sorted_BV.exp() >= top_p
    return logits_BV.masked_fill(outside_BV.scatter(-1, ids_BV, outside_BV), -torch.inf)


def _sample_in_blocks(logits_BV: Tensor, uniform_B: Tensor) -> tuple[Tensor, Tensor]:
    """The same with one exponential a token and hardly any fp64: first the block of tokens, then the token within it."""
    rows, vocab = logits_BV.shape
    blocks = -(-vocab // BLOCK)
    weight_BV = logits_BV.new_empty(rows, blocks * BLOCK)
    most_B1 = logits_BV.amax(-1, keepdim=True)
    torch.sub(logits_BV, most_B1, out=weight_BV[:, :vocab])
    weight_BV[:, :vocab].exp_()
    weight_BV[:, vocab:] = 0
    weight_BKV = weight_BV.view(rows, blocks, BLOCK)
    mass_BK = weight_BKV.sum(-1).double()
    total_B = mass_BK.sum(-1)
    block_B = _inverse_cdf(mass_BK, uniform_B)
    before_B = _at(mass_BK.cumsum(-1) - mass_BK, block_B)
    rest_B = ((uniform_B * total_B - before_B) / _at(mass_BK, block_B)).clamp(0, 1)  # a uniform number again
    token_B = block_B * BLOCK + _inverse_cdf(weight_BKV[torch.arange(rows), block_B].double(), rest_B)
    token_B = token_B.clamp(max=vocab - 1)  # where weights are nan
    logp_B = _at(logits_BV, token_B) - most_B1[:, 0] - total_B.log().float()
    return token_B, logp_B


def _inverse_cdf(weight_BV: Tensor, uniform_B: Tensor) -> Tensor:
    """First entry whose cumulative weight (fp64) exceeds that share of the whole: never one of weight 0. The last where weights are nan."""
    cdf_BV = weight_BV.cumsum(-1)
    found_B = torch.searchsorted(cdf_BV, (uniform_B * BELOW_ONE)[:, None] * cdf_BV[:, -1:], right=True)[:, 0]
    return found_B.clamp(max=weight_BV.shape[-1] - 1)


def _at(value_BV: Tensor, index_B: Tensor) -> Tensor:
    return value_BV.gather(-1, index_B[:, None])[:, 0]
