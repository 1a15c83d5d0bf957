"""Models whose layers bear an adapter: the one that they began as, and the plain one that both make together.

A layer of peft computes base_layer(x) plus its own update of it. Here it is set aside for a while, and a plain layer stands in its place;
its weights are never changed. On a model without such layers nothing happens.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


def layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers that bear an adapter, by name."""
    return {name: m for name, m in model.named_modules() if hasattr(m, "base_layer") and hasattr(m, "get_delta_weight")}


def quantised(layer: nn.Module) -> bool:
    """Whether the weight under a layer's adapter is held in another form, of which `whole` makes a plain layer."""
    return hasattr(layer.base_layer, "whole")


@contextmanager
def switched_off(model: nn.Module) -> Iterator[None]:
    """Meanwhile it is the model that the training began from."""
    with _replaced(model, lambda layer: layer.base_layer):
        yield


@contextmanager
def merged(model: nn.Module) -> Iterator[None]:
    """Meanwhile it is a plain model, by its parameters' names too: each weight W + its update, a copy, rounded to W's dtype."""
    with _replaced(model, plain):
        yield


def whole_weights(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """(name, value) of each parameter that `merged` shows, one at a time: those with an update in fp32, not rounded."""
    found = layers(model)
    inside = tuple(f"{name}." for name in found)
    yield from ((name, p) for name, p in model.named_parameters() if not name.startswith(inside))
    for name, layer in found.items():
        yield from ((f"{name}.{own}", p) for own, p in plain(layer, torch.float32).named_parameters())


@torch.no_grad()
def plain(layer: nn.Module, dtype: torch.dtype | None = None) -> nn.Module:
    """A frozen copy of a layer's base with the update in its weight, summed in fp32, of the base's dtype or another."""
    base = layer.base_layer.whole() if quantised(layer) else layer.base_layer
    weight = base.weight
    whole = weight.float() + sum(layer.get_delta_weight(name).float() for name in layer.active_adapters)
    made = copy.copy(base)
    made._parameters = {**base._parameters, "weight": nn.Parameter(whole.to(dtype or weight.dtype), requires_grad=False)}
    return made


def put(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Set the layer of a dotted name."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, layer)


@contextmanager
def _replaced(model: nn.Module, by: Callable[[nn.Module], nn.Module]) -> Iterator[None]:
    found = layers(model)
    try:
        for name, layer in found.items():
            put(model, name, by(layer))
        yield
    finally:
        for name, layer in found.items():
            put(model, name, layer)
