"""What vLLM says of a row, and whether it is what the trainer says."""

from __future__ import annotations

import torch
from torch import Tensor

from opd_steps.errors import UserError
from opd_steps.process import ranks

TOLERANCE = {"float32": 1e-3, "bfloat16": 0.5}  # nats, per token; fp32 engines differ by 1e-5, bf16 ones by .3


def fixed_row(length: int, model: torch.nn.Module) -> list[int]:
    """Token ids on which trainer and engine are compared."""
    return [7 * (i + 1) % model.config.vocab_size for i in range(length)]


@torch.no_grad()
def gap(model: torch.nn.Module, ids: list[int], said: list[float]) -> float:
    """Largest difference, in nats, between what an engine said of a row's tokens but the first and the model's own log-probs of them."""
    with ranks.letting_go(model):
        logits_TV = model(input_ids=torch.tensor([ids[:-1]], device=model.device), use_cache=False).logits[0].float().cpu()
    logp_T = torch.log_softmax(logits_TV, -1).gather(-1, torch.tensor(ids[1:])[:, None])[:, 0]
    return float((logp_T - torch.tensor(said)).abs().max())


def require_agreement(found: float, tolerance: float, version: int) -> None:
    """Raises UserError where the gap between engine and trainer is above `tolerance` nats: nan is no agreement."""
    if not found <= tolerance:
        raise UserError(
            "engine.tolerance",
            f"after the weights of step {version} went to vLLM, its log-probs differ from the trainer's by up to {found:.3g} "
            f"nats on a fixed sequence (tolerance {tolerance:g}): an update that is incomplete, or another dtype",
        )


def of_flat(flat, start: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of one row's flat prompt log-probs: at each position the token itself stands first, then the likeliest."""
    first, last = flat.start_indices[start], flat.end_indices[-1]
    places = len(flat.start_indices) - start
    ids_TW = torch.tensor(flat.token_ids[first:last]).view(places, -1)
    logp_TW = torch.tensor(flat.logprobs[first:last]).view(places, -1)
    return logp_TW[:, 0], ids_TW[:, 1:], logp_TW[:, 1:]
