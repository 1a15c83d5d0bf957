"""A node: a stage kind, its options, and the nodes that it reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from opd_steps.config.layers import Layers
from opd_steps.config.plugs import constant
from opd_steps.graph.code import FAMILIES, files, used_plugs
from opd_steps.store.fingerprint import canonical, code_hashes


@dataclass(eq=False)
class GraphNode:
    """One node: a stage kind, its options, and the nodes it reads by role; `says`: what its kind says of it (graph.kinds)."""

    paper: str
    kind: str
    name: str
    options: dict
    says: type
    parents: dict[str, GraphNode] = field(default_factory=dict)  # by the role in which it reads them (graph.links)
    parts: dict[str, str] = field(default_factory=dict)  # role -> which part of the parent; "" = the main one
    own: dict[str, str] = field(default_factory=dict)  # role that is a learner of this node -> its name; "" = the main one
    layers: Layers | None = None  # the places that wrote the options
    family: str = ""  # the node with the grid that it is a variant of, and the values that it has of this
    point: dict[str, Any] = field(default_factory=dict)

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
        told = {"kind", "seed", "resources", *self.parents.keys() - self.own.keys()}
        if self.options.get("trainer", {}).get("name") == "local":
            told.add("trainer")  # without a word in it that changes a result
        options = _without(self.options, told)
        parents = {role: self.named(role, node.path(seed)) for role, node in self.parents.items()}
        return canonical({"kind": self.kind, "options": options, "parents": parents, "seed": seed})

    def named(self, role: str, parent: str) -> str:
        """A name of the parent in this role, with the part that is read: "opd/both" or "opd/both:b"."""
        part = self.parts.get(role)
        return f"{parent}:{part}" if part else parent

    def root(self, part: str = "") -> GraphNode:
        """The node where the weights and tokens of its model come from, through all trainings; itself, if it goes on from none."""
        start = self.says.start(self, part)
        return self.root_of(start) if start else self

    def root_of(self, role: str) -> GraphNode:
        """The same of the model that it reads in this role."""
        return self.parents[role].root(self.parts.get(role, ""))

    def maker_of(self, role: str) -> GraphNode:
        """The node that says of which family the model is that it reads in this role: the nearest one on the way to the root."""
        node, part = self.parents[role], self.parts.get(role, "")
        while (start := node.says.start(node, part)) and FAMILIES not in dict(used_plugs(node.says, node.options)):
            node, part = node.parents[start], node.parts.get(start, "")
        return node

    def family_of(self, role: str) -> str | None:
        """Of the model that it reads in this role; None where nobody says of which family that is."""
        maker = self.maker_of(role)
        return dict(used_plugs(maker.says, maker.options)).get(FAMILIES)

    @property
    def origin(self) -> GraphNode:
        """Of a node that is read as another is (LIKE), that one; else itself."""
        return self.parents[self.says.LIKE].origin if self.says.LIKE else self

    @property
    def files(self) -> tuple[Path, ...]:
        """The step and the plugs that this node's job runs."""
        return tuple(files(self.kind, self.says, self.options, set(self._read_plugs())))

    @cached_property
    def code(self) -> dict[str, str]:
        """Hashes of the sources that this node's job runs."""
        return _code(self.files)

    def _read_plugs(self) -> Iterator[tuple[str, str]]:
        """Plugs that other nodes name and this one runs: those of its data, and the family of each model that it reads."""
        read = [(self.maker_of(role), (FAMILIES,)) for role in self.parents]
        asked = [group for item in self.options.get("hooks", ()) for group in constant("hooks", item["name"], "OF_DATA")]
        read += [(self.parents["data"].origin, (*self.says.OF_DATA, *asked))] if "data" in self.parents else []
        for node, groups in read:
            yield from (plug for plug in used_plugs(node.says, node.options) if plug[0] in groups)

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


def _without(options: Any, roles: set[str], at: str = "") -> Any:
    """Options but for the references in `roles`: their keys are left out, in a list they leave null."""
    if isinstance(options, dict):
        return {k: _without(v, roles, f"{at}{k}.") for k, v in options.items() if f"{at}{k}" not in roles}
    if isinstance(options, list):
        return [None if f"{at}{i}" in roles else _without(v, roles, f"{at}{i}.") for i, v in enumerate(options)]
    return options


@cache
def _code(files: tuple[Path, ...]) -> dict[str, str]:
    """One dict for all nodes that run the same sources."""
    return code_hashes(*files)
