"""A node: a stage kind, its options, and the nodes that it reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

from opd_steps.config.layers import Layers
from opd_steps.graph.code import files
from opd_steps.store.fingerprint import canonical, code_hashes


@dataclass(eq=False)
class GraphNode:
    """One node: a stage kind, its options, and the nodes it reads by role."""

    paper: str
    kind: str
    name: str
    options: dict
    parents: dict[str, GraphNode] = field(default_factory=dict)
    layers: Layers | None = None  # the places that wrote the options

    @property
    def key(self) -> tuple[str, str, str]:
        return self.paper, self.kind, self.name

    def seed(self, run_seed: int) -> int:
        """The seed of this node in a run: its pinned one, else the run's."""
        return run_seed if self.options["seed"] is None else self.options["seed"]

    def path(self, run_seed: int) -> str:
        """Folder below results/."""
        return f"{self.paper}/{self.kind}/{self.name}/seed{self.seed(run_seed)}"

    def job_config(self, seed: int) -> str:
        """Canonical JSON of exactly what the job depends on beside code and parents' content."""
        skip = {"kind", "seed", "resources", *self.parents}
        options = {k: v for k, v in self.options.items() if k not in skip}
        parents = {role: node.path(seed) for role, node in self.parents.items()}
        return canonical({"kind": self.kind, "options": options, "parents": parents, "seed": seed})

    @cached_property
    def code(self) -> dict[str, str]:
        """Hashes of the sources that this node's job runs (node_code.py)."""
        data = self.parents.get("data")
        return _code(tuple(files(self.kind, self.options, data.options if data and data.kind == "data" else None, self.models)))

    @property
    def models(self) -> list[dict]:
        """Options of the model nodes below this one: their families load, and compare, what is made of them."""
        return [node.options for node in self.ancestors() if node.kind == "model"]

    @cached_property
    def code_json(self) -> str:
        return canonical(self.code)

    def ancestors(self) -> list[GraphNode]:
        """All nodes below this one, each once, parents before children; this one last."""
        out: dict[tuple, GraphNode] = {}

        def visit(node: GraphNode) -> None:
            if node.key not in out:
                for parent in node.parents.values():
                    visit(parent)
                out[node.key] = node

        visit(self)
        return list(out.values())


@cache
def _code(files: tuple[Path, ...]) -> dict[str, str]:
    """One dict for all nodes that run the same sources."""
    return code_hashes(*files)
