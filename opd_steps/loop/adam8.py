"""AdamW whose two moments are held in eight bits a number (arXiv 2110.02861): blocks of each row are a scale and the nearest of 256 values.

    m ~ scale * VALUES[i],   scale = max |m| of a block of 256 neighbours in a row

Both are made whole for the update of a few rows and written back rounded: 2.03 bytes a weight in place of 8. Blocks never cross a row, so
that several processes, which hold rows, have the blocks of one. bitsandbytes and torchao have blocks of all numbers one behind the other;
the first takes no weights that processes share, and the second compiles its update anew for each shape.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from opd_steps.process import ranks

BLOCK = 256
LEAST = 4096  # numbers of a matrix that is worth it
AT_ONCE = 1 << 24  # numbers that are made whole together
MOMENTS = ("exp_avg", "exp_avg_sq")


@cache
def values(signed: bool, device: torch.device) -> Tensor:
    """Dynamic tree quantisation, [256], sorted: seven decades below 1, each with twice the values of that below it, 0 and 1."""
    found = [0.0, 1.0]
    for i in range(7):
        edges = torch.linspace(0.1, 1, 2 ** (i if signed else i + 1) + 1)
        means = (edges[:-1] + edges[1:]) / 2 * 10.0 ** (i - 6)
        found += [*means.tolist(), *(-means if signed else means[:0]).tolist()]
    return torch.tensor(sorted(found), device=device)


def coded(x_RC: Tensor, signed: bool) -> tuple[Tensor, Tensor]:
    """(codes [R, C] uint8, scales [R, blocks] fp32) of fp32 numbers."""
    blocks_RKB = pad(x_RC, (0, -x_RC.shape[1] % BLOCK)).unflatten(1, (-1, BLOCK))
    scale_RK = blocks_RKB.abs().amax(2)
    shares = blocks_RKB / torch.where(scale_RK > 0, scale_RK, 1)[..., None]
    known = values(signed, x_RC.device)
    number = torch.bucketize(shares, (known[1:] + known[:-1]) / 2, out_int32=True).to(torch.uint8)
    return number.flatten(1)[:, : x_RC.shape[1]], scale_RK


def dense(code_RC: Tensor, scale_RK: Tensor, signed: bool) -> Tensor:
    """The numbers that are meant, fp32 [R, C]."""
    found_RC = values(signed, code_RC.device)[code_RC.int()]
    blocks_RKB = pad(found_RC, (0, -code_RC.shape[1] % BLOCK)).unflatten(1, (-1, BLOCK)) * scale_RK[..., None]
    return blocks_RKB.flatten(1)[:, : code_RC.shape[1]]


class AdamW8(torch.optim.Optimizer):
    """Of matrices of at least 4,096 numbers; moments of the rest are fp32. The update itself is AdamW's, in fp32, by the moments before
    they are rounded."""

    def __init__(self, groups: list[dict], lr: float, betas: tuple[float, float], eps: float):
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps})

    @staticmethod
    def blank(p: Tensor) -> dict[str, Tensor]:
        """What is held of a weight, before its first update; cut among processes as the weight is."""
        whole = p.detach()
        if p.ndim < 2 or p.numel() < LEAST:
            return {name: torch.zeros_like(whole, dtype=torch.float32) for name in MOMENTS}
        blocks = -(-p.shape[-1] // BLOCK)
        found = {}
        for name in MOMENTS:
            found[name] = torch.zeros_like(whole, dtype=torch.uint8)
            found[f"{name}_scale"] = torch.zeros_like(whole[..., :blocks], dtype=torch.float32)
        return found

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if not self.state[p]:
                    self.state[p] |= {"step": torch.tensor(0.0), **self.blank(p)}
                self.state[p]["step"] += 1
                self._update(p, group)

    def _update(self, p: Tensor, group: dict) -> None:
        (b1, b2), lr, state = group["betas"], group["lr"], self.state[p]
        t = float(state["step"])
        decay, rate, root = 1 - lr * group["weight_decay"], lr / (1 - b1**t), math.sqrt(1 - b2**t)
        for rows in self._rows(p):
            weight, gradient = (_own(x)[rows] for x in (p, p.grad))
            gradient = gradient.float()
            mean, square = self._read(p, rows)
            mean.lerp_(gradient, 1 - b1)
            square.mul_(b2).addcmul_(gradient, gradient, value=1 - b2)
            step = mean / (square.sqrt() / root + group["eps"])
            weight.copy_(weight.float().mul_(decay).sub_(step, alpha=rate))
            for signed, name, value in ((True, MOMENTS[0], mean), (False, MOMENTS[1], square)):
                if f"{name}_scale" in state:
                    codes, scales = coded(value.flatten(0, -2), signed)
                    _own(state[name])[rows].copy_(codes.view_as(value))
                    _own(state[f"{name}_scale"])[rows].copy_(scales.view(*value.shape[:-1], -1))
                else:
                    _own(state[name])[rows].copy_(value)

    def moments(self, p: Tensor) -> tuple[Tensor, Tensor]:
        """Both whole, cut as the weight is."""
        mean, square = self._read(p, slice(None))
        return ranks.part_like(mean, p), ranks.part_like(square, p)

    def _read(self, p: Tensor, rows: slice) -> list[Tensor]:
        state, found = self.state[p], []
        for signed, name in zip((True, False), MOMENTS, strict=True):
            value = _own(state[name])[rows]
            if f"{name}_scale" in state:
                scales = _own(state[f"{name}_scale"])[rows].flatten(0, -2)
                found.append(dense(value.flatten(0, -2), scales, signed).view(value.shape))
            else:
                found.append(value.clone())
        return found

    @staticmethod
    def _rows(p: Tensor) -> list[slice]:
        """This process's rows, as many at once as are made whole together."""
        own = _own(p)
        size = max(1, AT_ONCE // max(1, own[0].numel())) if len(own) else 1
        return [slice(i, i + size) for i in range(0, len(own), size)]


def _own(tensor: Tensor) -> Tensor:
    return ranks.own_rows(tensor)[0]
