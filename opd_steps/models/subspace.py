"""Subspaces of key and value activations, and models whose keys and values lie in them (SPD, arXiv 2605.22675).

G [N, D]: gradients of a loss at the output of k_proj (or v_proj) at N positions, D = d_kv. G = U S W^T; the basis W_r [D, r] is its
r first right singular vectors, P = W_r W_r^T the orthogonal projector on it. The model that is meant computes K P and V P.
As z P = h (P W_proj)^T + P b, that is a model of the same shape with other weights: any engine samples from it.

The place is ours: flattened outputs of k_proj and v_proj, before norm and rotation; the paper's was not found.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from opd_steps.errors import UserError
from opd_steps.seeds import rng

PROJECTIONS = ("k_proj", "v_proj")


def projections(model: nn.Module, layers: Sequence[int]) -> dict[str, nn.Linear]:
    """k_proj and v_proj of some layers, by name: "5.k_proj". Layers count from 0, or from -1 backwards; none: the middle and the last.

    Raises UserError for a layer, or projections, that the model does not have.
    """
    blocks = getattr(model.get_decoder() if hasattr(model, "get_decoder") else None, "layers", ())
    if not blocks:
        raise UserError("model", "it has no decoder layers whose keys and values could be projected")
    count = len(blocks)
    picks = [layer + count if layer < 0 else layer for layer in layers or (count // 2, -1)]
    if bad := [layer for layer in picks if not 0 <= layer < count]:
        raise UserError("layers", f"this model has {count} layers: no layer {bad[0]}")
    found = {f"{i}.{name}": getattr(getattr(blocks[i], "self_attn", None), name, None) for i in picks for name in PROJECTIONS}
    if missing := [name for name, linear in found.items() if not isinstance(linear, nn.Linear)]:
        raise UserError("model", f"it has no {missing[0]}: its keys and values are made otherwise")
    return found


def main_directions(gradient_ND: Tensor, rank: int) -> Tensor:
    """W_r: the `rank` directions, orthonormal columns [D, r], that hold most of the gradients; fp64."""
    _, _, right_DD = torch.linalg.svd(gradient_ND.double(), full_matrices=len(gradient_ND) < gradient_ND.shape[1])
    return right_DD[:rank].T.contiguous()


def random_directions(width: int, rank: int, *seed: object) -> Tensor:
    """The control: `rank` orthonormal directions, uniform, a function of the seed."""
    drawn_DR = torch.from_numpy(rng(*seed).standard_normal((width, rank)))
    return torch.linalg.qr(drawn_DR)[0].contiguous()


def projector(basis_DR: Tensor) -> Tensor:
    """P = W_r W_r^T [D, D]: P^2 = P = P^T, of rank r."""
    return basis_DR @ basis_DR.T


def energy(gradient_ND: Tensor, basis_DR: Tensor) -> float:
    """|G P|^2 / |G|^2: the share of the gradients' squared length that the subspace holds."""
    gradient_ND = gradient_ND.double()
    return float((gradient_ND @ basis_DR).square().sum() / gradient_ND.square().sum())


@torch.no_grad()
def fold(linear: nn.Linear, basis_DR: Tensor) -> None:
    """Change the projection so that its output is the old one times P: weight <- P weight, bias <- P bias."""
    p_DD = projector(basis_DR.to(linear.weight.device))
    for parameter in filter(lambda p: p is not None, (linear.weight, linear.bias)):
        parameter.copy_((p_DD @ parameter.double()).to(parameter.dtype))
