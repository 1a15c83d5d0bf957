"""Walks on a graph: a skill that is learned smoothly, and whose errors can be repaired by who knows the way from anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import perm
from typing import Annotated, ClassVar

import numpy as np

from opd_steps.errors import UserError
from opd_steps.seeds import rng
from opd_steps.tasks.errands import NODES, Errand, Graph
from opd_steps.tasks.rows import row, splits
from opd_steps.tasks.sources import Source


@dataclass(frozen=True)
class Walk(Source):
    """Prompt `a>k>q:` (a start, way points, a goal, all different), solution `bfk..q`: a shortest walk, each node that it comes to.

    The graph is a ring with `chords`, and a function of nodes, chords and `graph` alone. In `corpus` each step is, with probability
    `noise`, to a uniform neighbour, and the walk goes on from there by the shortest way: it is longer, and still right.
    Walks begin at few `starts`, evenly spread over the ring, so that good ones see a small part of all (place, goal), and a wrong
    step leads to places that they never show. Prompts of ood have a start and first stop that no prompt of train and test has
    together. The answer is the prompt and the graph's edges: what the verifier `walk` reads.
    """

    CHECKS: ClassVar[tuple[str, ...]] = ("starts <= nodes", "way_points <= nodes - 2")

    nodes: Annotated[int, "4 to 62"] = 36  # a character each
    chords: Annotated[int, "at least 0"] = 6  # edges beside those of the ring
    graph: Annotated[int, "any"] = 0  # its seed: which chords
    starts: Annotated[int, "at least 1"] = 6  # nodes at which walks begin
    way_points: Annotated[int, "at least 0"] = 1  # of a prompt, to be met in order
    noise: Annotated[float, "0 to 1"] = 0.15  # probability of a step to any neighbour, in the corpus
    held_out: Annotated[float, "0 to 1"] = 0.1  # share of the pairs of start and first stop that are ood's
    train: Annotated[int, "at least 1"] = 6000  # rows
    test: Annotated[int, "at least 0"] = 500
    ood: Annotated[int, "at least 0"] = 200

    def rows(self, seed: int) -> dict[str, list[dict]]:
        """Rows by split, all prompts distinct. Raises UserError when there are fewer prompts than rows, or fewer chords than asked for."""
        graph, names = self.made(), NODES[: self.nodes]
        starts = [names[i * self.nodes // self.starts] for i in range(self.starts)]
        pairs = [start + stop for start in starts for stop in names if stop != start]
        order = rng(self.graph, "walk", "held out").permutation(len(pairs))
        held, shown = np.split(np.array(pairs)[order], [round(self.held_out * len(pairs))])
        found = self._split(self.test + self.train, graph, sorted(shown), rng(seed, "walk"))
        ood = self._split(self.ood, graph, sorted(held), rng(seed, "walk", "ood"))
        return splits(found[self.test :], found[: self.test], ood)

    def made(self) -> Graph:
        """The graph."""
        names = NODES[: self.nodes]
        ring = [names[i] + names[(i + 1) % self.nodes] for i in range(self.nodes)]
        taken = {frozenset(edge) for edge in ring}
        free = ["".join(pair) for pair in combinations(names, 2) if frozenset(pair) not in taken]
        if self.chords > len(free):
            raise UserError("walk.chords", f"a ring of {self.nodes} nodes has room for {len(free)}, not {self.chords}")
        chords = rng(self.graph, "walk", "graph").choice(len(free), self.chords, replace=False)
        return Graph("".join(ring + [free[i] for i in sorted(chords)]))

    def _split(self, count: int, graph: Graph, pairs: Sequence[str], draw: np.random.Generator) -> list[dict]:
        """So many rows, each with one of the pairs of start and first stop."""
        prompts = len(pairs) * perm(self.nodes - 2, self.way_points)
        if count > prompts:
            raise UserError("walk", f"{count} rows asked for, and their starts and stops make {prompts} distinct prompts")
        out: dict[str, dict] = {}
        while len(out) < count:
            start, first = pairs[int(draw.integers(len(pairs)))]
            others = [node for node in graph.neighbours if node not in (start, first)]
            stops = first + "".join(draw.choice(others, self.way_points, replace=False))
            errand = Errand(start, stops, graph)
            if errand.prompt not in out:
                corpus, strays = self._walk(errand, draw, self.noise)
                solution, _ = self._walk(errand, draw, 0.0)
                meta = {"steps": errand.shortest, "corpus_steps": len(corpus), "strays": strays}
                out[errand.prompt] = row(errand.prompt, str(errand), solution, corpus, **meta)
        return list(out.values())

    def _walk(self, errand: Errand, draw: np.random.Generator, noise: float) -> tuple[str, int]:
        """(a right walk, how many of its steps were to a uniform neighbour)."""
        place, walk, strays = errand.start, "", 0
        for stop in errand.stops:
            while place != stop:
                if stray := draw.random() < noise:
                    near = errand.graph.neighbours[place]
                    place = near[int(draw.integers(len(near)))]
                else:
                    place = errand.graph.toward(place, stop)
                walk, strays = walk + place, strays + stray
        return walk, strays

    def right_attempt(self, row: dict, draw: np.random.Generator) -> str:
        """Another walk as those of the corpus."""
        return self._walk(Errand.read(row["answer"]), draw, self.noise)[0]

    def wrong_attempt(self, row: dict, answers: Sequence[str], draw: np.random.Generator) -> str:
        """The solution with another node at a uniform step, one to which no edge leads."""
        errand, walk = Errand.read(row["answer"]), row["solution"]
        at = int(draw.integers(len(walk)))
        before = (errand.start + walk)[at]
        far = [node for node in NODES[: self.nodes] if node != before and node not in errand.graph.neighbours[before]]
        return walk[:at] + far[int(draw.integers(len(far)))] + walk[at + 1 :]
