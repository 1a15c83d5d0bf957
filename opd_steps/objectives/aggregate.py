"""How losses of decision points become one number. The constants are those of the whole optimizer step."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Aggregation = Literal["token_mean", "seq_mean", "window_mean", "seq_sum"]


def weights_N(
    name: Aggregation, length_B: Tensor, rows: int, tokens: int, window: int = 0, mask_N: Tensor | None = None
) -> Tensor:
    """Weight of each decision point, so that loss = sum_N weight_N * loss_N. [N], fp32, N = sum of `length_B`.

    token_mean   1 / tokens                 DAPO, and nearly all OPD code
    seq_mean     1 / (rows * row's length)  GRPO
    window_mean  1 / (rows * window)        Dr.GRPO; `window` = generation budget in decisions
    seq_sum      1 / rows                   theory texts

    `length_B` may be a part of an optimizer step; `rows` and `tokens` count the whole step, so that the gradients of its parts
    add up to that of the whole. `mask_N`: decisions that count (1) or not (0); `tokens` counts those that do.
    """
    if name == "window_mean" and window < 1:
        raise ValueError("window_mean divides by the generation budget: give window")
    row_N = torch.repeat_interleave(torch.arange(len(length_B), device=length_B.device), length_B)
    count_B = length_B if mask_N is None else length_B.new_zeros(len(length_B)).index_add(0, row_N, mask_N.to(length_B.dtype))
    divisor = {"token_mean": tokens, "seq_mean": rows * count_B.clamp(min=1), "window_mean": rows * window, "seq_sum": rows}
    weight_N = (1 / torch.as_tensor(divisor[name], dtype=torch.float32)).to(length_B.device).expand(len(length_B))[row_N]
    return weight_N if mask_N is None else weight_N * mask_N
