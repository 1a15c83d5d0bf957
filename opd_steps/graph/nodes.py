"""The graph of named nodes: papers resolved at a scale, references followed, mistakes refused."""

from __future__ import annotations

import dataclasses
import re

from opd_steps.config.layers import Layers
from opd_steps.config.load import load_paper
from opd_steps.config.merge import merge
from opd_steps.config.plugs import constant
from opd_steps.config.scalars import shown
from opd_steps.config.teachers import SELF, own_learner
from opd_steps.errors import UserError
from opd_steps.graph.kinds import KINDS
from opd_steps.graph.links import link, require_part, unknown
from opd_steps.graph.node import GraphNode

FROZEN = "frozen"  # teachers/sources: weights that stay
EVALUATE = "evaluate"  # the kind of the nodes that a paper's section of this name makes
_NAME = re.compile(r"[A-Za-z0-9_]{1,100}")


class Graph:
    """The nodes of the selected papers and of all papers that they use."""

    @classmethod
    def of(cls, root: dict) -> Graph:
        """The graph of a checked config.yaml."""
        engines = {"engine": root["engine"], "teacher_engine": root["teacher_engine"]}
        return cls(root["papers"], root["scale"], engines, root["benchmarks"], root["paths"])

    def __init__(self, papers: list[str], scale: str = "tiny", engines: dict | None = None, benchmarks=(), paths=None):
        self.scale, self.engines, self.benchmarks, self.paths = scale, engines or {}, list(benchmarks), paths or {}
        self.papers: dict[str, dict] = {}
        self._loaded: dict[str, dict] = {}  # by the name or path that was asked for
        self.nodes: dict[tuple[str, str, str], GraphNode] = {}
        self._names: dict[str, dict[str, GraphNode]] = {}
        self.selected = [self._add(name, ()) for name in papers]

    def _add(self, name: str, users: tuple[str, ...], where: str = "config.yaml.papers") -> str:
        if name not in self._loaded:
            self._loaded[name] = load_paper(name, self.paths, where)
        paper = self._loaded[name]
        name = paper["name"]
        if name in users:
            raise UserError(paper["file"], f"papers use each other in a circle: {' -> '.join((*users, name))}")
        if name in self.papers:
            if self.papers[name]["file"] != paper["file"]:
                raise UserError(paper["file"], f"another paper file has the same name: {self.papers[name]['file']}")
            return name
        scope: dict[str, GraphNode] = {}
        for used in paper["use"]:
            for key, node in self._names[self._add(used, (*users, name), f"{paper['file']}.use")].items():
                if scope.setdefault(key, node) is not node:
                    raise UserError(f"{paper['file']}.use", f"two of the used papers define a node '{key}'")
        self.papers[name] = paper
        self._names[name] = scope
        self._build(paper, scope)
        return name

    def _build(self, paper: dict, scope: dict[str, GraphNode]) -> None:
        file, scales = paper["file"], paper["scales"]
        if scales and self.scale not in scales:
            raise UserError(f"{file}.scales", f"no scale '{self.scale}'; this paper has: {', '.join(scales)}")
        scale = scales.get(self.scale, {"kinds": {}, "nodes": {}, "evaluate": {}})
        for section, known in (("nodes", paper["nodes"]), ("kinds", KINDS)):
            for key in scale[section]:
                if key not in known:
                    raise UserError(f"{file}.scales.{self.scale}.{section}.{key}", unknown(key, known))
        own: dict[str, GraphNode] = {}
        for name, raw in paper["nodes"].items():
            where = f"{file}.nodes.{name}"
            if name in scope:
                raise UserError(where, f"a node of this name already comes from paper '{scope[name].paper}'")
            own[name] = self._node(paper["name"], name, raw, scale, where)
        scope.update(own)
        for name, node in own.items():
            with node.layers.blamed():
                link(node, scope, f"{file}.nodes.{name}")
        _refuse_cycles(own, file)
        where = f"{file}.evaluate.options"
        for model in paper["evaluate"]["models"]:
            name, colon, part = model.partition(":")
            if name not in scope:
                raise UserError(f"{file}.evaluate.models", unknown(name, scope))
            if colon:
                require_part(scope[name], part, f"{file}.evaluate.models")
            raw = {"kind": EVALUATE, "model": model} | paper["evaluate"]["options"]
            name, owner = _evaluation(name, part), scope[name].paper
            if (paper["name"], EVALUATE, name) in self.nodes:
                raise UserError(
                    f"{file}.evaluate.models", f"'{model}' would be evaluated as '{name}', and another node is: rename it"
                )
            owned = self.nodes.get((owner, EVALUATE, name))
            node = self._node(paper["name"], name, raw, scale, where, nodes=False)
            with node.layers.blamed():
                link(node, scope, where)
                if owned:  # a shared node is evaluated once, by the paper that owns it
                    _refuse_another(node, owned, where)
                    del self.nodes[node.key]

    def _node(self, paper: str, name: str, raw: object, scale: dict, where: str, nodes: bool = True) -> GraphNode:
        if not isinstance(raw, dict) or "kind" not in raw:
            raise UserError(where, f"expected {{kind: ...}} with one of: {', '.join(KINDS)}")
        if name == SELF or not _NAME.fullmatch(name):
            raise UserError(where, f"a node's name is made of 1 to 100 letters, digits and underscores, and not {SELF}")
        kind = raw["kind"]
        if not isinstance(kind, str) or kind not in KINDS:
            raise UserError(f"{where}.kind", unknown(kind, KINDS))
        keys = {f.name for f in dataclasses.fields(KINDS[kind])} - ({"teacher_engine"} if "scores" in raw else set())
        engines = {role: {"name": name} for role, name in self.engines.items() if role in keys}
        if "teachers" in keys and "teacher_engine" in engines and isinstance(raw.get("teachers"), dict):
            engines["teachers"] = {n: {"engine": engines["teacher_engine"]} for n, t in raw["teachers"].items() if _served(t)}
        at = f"{self.papers[paper]['file']}.scales.{self.scale}"
        last = (f"{at}.nodes.{name}", scale["nodes"].get(name, {})) if nodes else (f"{at}.evaluate", scale["evaluate"])
        shared = [("config.yaml", engines), (f"{at}.kinds.{kind}", scale["kinds"].get(kind, {}))]
        layers = Layers(where, [*shared, (where, raw), last])
        raw = layers.merged()
        with layers.blamed():
            node = GraphNode(paper, kind, name, merge(KINDS[kind], raw, where), KINDS[kind], layers=layers)
        if "benchmarks" in keys and "benchmarks" in constant("evaluation/suites", node.options["suite"]["name"], "READS"):
            node.options["benchmarks"] += [task for task in self.benchmarks if task not in node.options["benchmarks"]]
        self.nodes[node.key] = node
        return node

    def uses(self, paper: str) -> list[str]:
        """Names of the papers that a paper uses itself."""
        return [self._loaded[used]["name"] for used in self.papers[paper]["use"]]

    def find(self, paper: str, name: str) -> GraphNode | None:
        """The node that `name` means inside `paper`."""
        return self._names[paper].get(name)

    def evaluation(self, paper: str, name: str, part: str = "") -> GraphNode | None:
        """The evaluate node of model `name`, or of a part of it, as seen from `paper`: its own, else the owner's."""
        owner, made = self._names[paper].get(name), _evaluation(name, part)
        keys = [(paper, EVALUATE, made)] + ([(owner.paper, EVALUATE, made)] if owner else [])
        return next((self.nodes[k] for k in keys if k in self.nodes), None)


def _evaluation(name: str, part: str) -> str:
    """The name of the node that evaluates a model."""
    return f"{name}__{part}" if part else name


def _served(teacher: object) -> bool:
    """Whether the run's teacher_engine may stand for a teacher of a node: a frozen one, with a model of its own."""
    if not isinstance(teacher, dict) or not teacher.get("model"):
        return False
    frozen = teacher.get("weights", FROZEN) in (FROZEN, {"name": FROZEN})
    return frozen and own_learner(teacher["model"]) is None


def _refuse_another(node: GraphNode, owned: GraphNode, where: str) -> None:
    """Raises UserError where a paper would evaluate another's node otherwise than its owner does."""
    for key, value in node.options.items():
        read = lambda n: (n.parents[key].key, n.parts[key]) if key in n.parents else n.options[key]  # noqa: B023
        if read(node) != read(owned) and key != "resources":
            raise UserError(
                f"{where}.{key}",
                f"found {shown(value)}, but '{node.name}' is evaluated once, by its own paper '{owned.paper}', with "
                f"{shown(owned.options[key])}: ask for the same, or leave it out of evaluate.models",
            )


def _refuse_cycles(own: dict[str, GraphNode], file: str) -> None:
    done: set[str] = set()

    def visit(node: GraphNode, trail: tuple[str, ...]) -> None:
        if node.name in trail:
            circle = " -> ".join((*trail[trail.index(node.name) :], node.name))
            raise UserError(f"{file}.nodes.{node.name}", f"nodes read each other in a circle: {circle}")
        if node.name in done or node.name not in own:
            return
        for parent in node.parents.values():
            visit(parent, (*trail, node.name))
        done.add(node.name)

    for node in own.values():
        visit(node, ())
