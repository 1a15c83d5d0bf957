"""Errands on a graph, in letters: `a>k>q:` asks for a walk from a by k to q; `bfk..q` is one, each node that it comes to."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from itertools import pairwise

NODES = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # a node is one character


@dataclass(frozen=True)
class Graph:
    """Nodes and the edges between them, open both ways. `edges`: two characters each, `abbc` for a-b and b-c."""

    edges: str

    @cached_property
    def neighbours(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for a, b in zip(self.edges[::2], self.edges[1::2], strict=True):
            found[a], found[b] = found.get(a, "") + b, found.get(b, "") + a
        return {node: "".join(sorted(others)) for node, others in found.items()}

    @cache  # noqa: B019 - graphs are few, and live as long as the process
    def distances(self, goal: str) -> dict[str, int]:
        """Steps to `goal` from each node that it can be reached from."""
        steps, queue = {goal: 0}, deque(goal)
        while queue:
            place = queue.popleft()
            for other in self.neighbours[place]:
                if other not in steps:
                    steps[other] = steps[place] + 1
                    queue.append(other)
        return steps

    def toward(self, place: str, goal: str) -> str:
        """The neighbour of `place` that is nearest to `goal`, the first of several."""
        steps = self.distances(goal)
        return min(self.neighbours[place], key=lambda node: (steps[node], node))


@dataclass(frozen=True)
class Errand:
    """From `start` by way points to a goal: `stops`, in this order. Written `a>k>q:`, and with the graph's edges behind it."""

    start: str
    stops: str
    graph: Graph

    @classmethod
    def read(cls, text: str) -> Errand:
        """The errand that `str` wrote. Raises ValueError for any other text."""
        asked, colon, edges = text.partition(":")
        nodes = asked.split(">")
        graph = _graph(edges)
        if not colon or len(edges) % 2 or len(nodes) < 2 or any(node not in graph.neighbours for node in nodes):
            raise ValueError(f"no errand: {text!r}")
        if any(a not in graph.distances(b) for a, b in pairwise(nodes)):
            raise ValueError(f"an errand that nobody can run: {text!r}")
        return cls(nodes[0], "".join(nodes[1:]), graph)

    def __str__(self) -> str:
        return f"{self.prompt}{self.graph.edges}"

    @property
    def prompt(self) -> str:
        return ">".join([self.start, *self.stops]) + ":"

    @property
    def shortest(self) -> int:
        """Steps of a shortest walk."""
        places = self.start + self.stops
        return sum(self.graph.distances(goal)[place] for place, goal in pairwise(places))

    def legal(self, walk: str) -> Iterator[bool]:
        """Of each step, whether it is an edge."""
        return (b in self.graph.neighbours.get(a, "") for a, b in zip(self.start + walk, walk, strict=False))

    def met(self, walk: str) -> int:
        """How many stops it comes to, in their order, before its first step that is no edge."""
        left = self.stops
        for node, legal in zip(walk, self.legal(walk), strict=True):
            if not legal:
                break
            left = left.removeprefix(node)
        return len(self.stops) - len(left)

    def right(self, walk: str) -> bool:
        """Every step an edge, every stop met, and the goal is where it ends."""
        return walk[-1:] == self.stops[-1] and all(self.legal(walk)) and self.met(walk) == len(self.stops)


@lru_cache(maxsize=64)
def _graph(edges: str) -> Graph:
    return Graph(edges)
