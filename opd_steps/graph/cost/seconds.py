"""How long a step takes on an H100, by its arithmetic. An estimate: what it assumes is in ASSUMED, which is shown with it."""

from __future__ import annotations

from math import ceil

from opd_steps.graph.cost.acting import Acting
from opd_steps.graph.cost.drawing import Drawing
from opd_steps.graph.cost.needs import Needs
from opd_steps.graph.cost.operations import attention, products
from opd_steps.graph.cost.rows import Length
from opd_steps.graph.cost.shape import BYTES, Shape
from opd_steps.process import cards, devices

PEAK = cards.PEAK["H100"]
SHARE = {"float32": 0.4, "bfloat16": 0.15}  # of that, which our steps reach: docs/speed.md, 2026-11-26
MEMORY, OF_MEMORY = 3.35e12, 0.6  # bytes a second, and what weights and cache are read with
CALLS = 0.5e-3  # seconds a layer that the local decoder takes for a token, however few rows: the same table
ASSUMED = (
    f"time: H100s at {SHARE['bfloat16']:.0%} of their peak in bf16, {SHARE['float32']:.0%} in fp32, {OF_MEMORY:.0%} of their memory's rate, "
    f"{CALLS * 1e3:g} ms a layer and token in the local decoder; every answer as long as it may be"
)


def seconds(needs: Needs) -> float | None:
    """Of all steps; None where nobody knows how many rows there are, without a GPU, and of masked models, which read a row more
    than once."""
    if not needs.cuda or not needs.work.steps or any(shape.masked for shape in needs.shapes.values()):
        return None
    if isinstance(needs, Drawing | Acting):
        return needs.work.steps * needs.operations() / _speed(needs.compute)
    return needs.work.steps * (_sampling(needs) + _reading(needs))


def _forward(shape: Shape, length: int) -> float:
    """Operations of a token: its matrices, and attention to half of the row."""
    return products(shape, 1, 1) + attention(shape, length / 2)


def _row(shape: Shape, length: Length, tokens: int) -> float:
    """Of the first tokens of a row, and of what it sees; a tower's attention is left out."""
    pictures = 2 * shape.tower.linear * shape.tower.merged * length.seen if shape.tower else 0
    return tokens * _forward(shape, tokens) + pictures


def _speed(dtype: str) -> float:
    return PEAK[dtype] * SHARE[dtype]


def _sampling(needs: Needs) -> float:
    work, dtype = needs.work, needs.compute
    served = next((s for s in work.served if s.key == "engine"), None)
    if not work.drawn or not (work.samples or served):
        return 0.0
    shape, length = needs.shapes[work.samples or served.role], needs.length
    among = 1 if served else needs.ranks  # one engine for all processes
    rows = ceil(work.drawn / among)
    cards = max(devices.wanted(served.options), served.options["tensor_parallel"]) if served else 1
    at_once = min(work.at_once, rows)
    read = shape.parameters + at_once * shape.cached * (length.context + length.answer / 2)
    token = max(read * BYTES[dtype] / MEMORY / OF_MEMORY, at_once * _forward(shape, length.total) / _speed(dtype)) / cards
    token = token if served else max(token, shape.layers * CALLS)
    prompts = ceil(work.prompts / among) * _row(shape, length, length.context) / _speed(dtype)
    return prompts + ceil(rows / at_once) * length.answer * token


def _reading(needs: Needs) -> float:
    """The passes of learners, with their gradients, and of the models beside them."""
    work = needs.work
    operations = lambda role: _row(needs.shapes[role], needs.length, needs.length.total)
    each = [needs.forwards * operations(role) / _speed(needs.compute) for role in work.trains]
    each += [operations(m.role) / _speed(m.dtype) for m in work.still]
    each += [operations(s.role) / _speed(s.dtype) for s in work.served if s.key != "engine"]
    return needs.learned * sum(each)
