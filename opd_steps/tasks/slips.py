"""Walks on a graph whose steps slip: `bf~km` is a step to b, one to f that led to k, and one from there to m. The world writes `~k`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from opd_steps.tasks.errands import Errand, Graph

MARK = "~"


def landed(graph: Graph, place: str, node: str, slip: float, chance: Sequence[float]) -> str:
    """Where a step from `place` to its neighbour `node` leads: with probability `slip` to a uniform one of its other neighbours.

    chance   two uniform numbers of [0, 1)
    """
    others = graph.neighbours[place].replace(node, "")
    return others[int(chance[1] * len(others))] if chance[0] < slip and others else node


def slipping(errand: Errand, slip: float, noise: float, draw: np.random.Generator) -> str:
    """A right walk by who knows the graph, as it is written: by the shortest way from wherever it is, but for a share `noise` of steps
    to any neighbour; each slips with probability `slip`.
    """
    place, text = errand.start, ""
    for stop in errand.stops:
        while place != stop:
            near = errand.graph.neighbours[place]
            stray = draw.random() < noise
            node = near[int(draw.integers(len(near)))] if stray else errand.graph.toward(place, stop)
            place = landed(errand.graph, place, node, slip, draw.random(2))
            text += node if place == node else node + MARK + place
    return text
