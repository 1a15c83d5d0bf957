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
from opd_steps.graph.grid import GRID, nested, variants
from opd_steps.graph.kinds import KINDS
from opd_steps.graph.links import link, require_part, unknown
from opd_steps.graph.node import GraphNode
from opd_steps.graph.scales import EVALUATE, names, of_evaluation, of_kind, scale_of

FROZEN = "frozen"  # teachers/sources: weights that stay
_NAME = re.compile(r"[A-Za-z0-9_]{1,100}")


class Graph:
    """The nodes of the selected papers and of all papers that they use."""

    @classmethod
    def of(cls, root: dict) -> Graph:
        """The graph of a checked config.yaml."""
        engines = {"engine": root["engine"], "teacher_engine": root["teacher_engine"]}
        return cls(root["papers"], root["scale"], engines, root["benchmarks"], root["paths"], root["tune"])

    def __init__(
        self,
        papers: list[str],
        scale: str = "tiny",
        engines: dict | None = None,
        benchmarks=(),
        paths=None,
        tune: dict | None = None,
    ):
        self.scale, self.engines, self.benchmarks, self.paths = scale, engines or {}, list(benchmarks), paths or {}
        self.tune = {"tune": tune} if tune else {}
        self.papers: dict[str, dict] = {}
        self._loaded: dict[str, dict] = {}  # by the name or path that was asked for
        self.nodes: dict[tuple[str, str, str], GraphNode] = {}
        self.grids: dict[
            str, dict[str, list[str]]
        ] = {}  # paper -> node with a grid, its own or of a used paper -> its variants
        self._names: dict[str, dict[str, GraphNode]] = {}
        self.sides: dict[tuple[str, int], list] = {}  # of claims, as references.sides reads them
        self.selected = [self._add(name, ()) for name in papers]

    def _add(self, name: str, users: tuple[str, ...], where: str = "config.yaml.papers") -> str:
        if name not in self._loaded:
            self._loaded[name] = load_paper(name, self.paths, where, self.scale)
        paper = self._loaded[name]
        scale_of(paper, self.scale)  # before those that it uses: it is the one that was asked for
        name = paper["name"]
        if name in users:
            raise UserError(paper["file"], f"papers use each other in a circle: {' -> '.join((*users, name))}")
        if name in self.papers:
            if self.papers[name]["file"] != paper["file"]:
                raise UserError(paper["file"], f"another paper file has the same name: {self.papers[name]['file']}")
            return name
        scope: dict[str, GraphNode] = {}
        grids = self.grids[name] = {}
        for used in paper["use"]:
            used = self._add(used, (*users, name), f"{paper['file']}.use")
            grids.update(self.grids[used])
            for key, node in self._names[used].items():
                if scope.setdefault(key, node) is not node:
                    raise UserError(f"{paper['file']}.use", f"two of the used papers define a node '{key}'")
        self.papers[name], self._names[name] = paper, scope
        self._build(paper, scope)
        return name

    def _build(self, paper: dict, scope: dict[str, GraphNode]) -> None:
        """`scope`: the nodes of the papers that it uses; its own join them, and its copies take their places."""
        file = paper["file"]
        place, scale = scale_of(paper, self.scale)
        own: dict[str, GraphNode] = {}
        for name, raw in paper["nodes"].items():
            where = f"{file}.nodes.{name}"
            if name in scope:
                raise UserError(where, f"a node of this name already comes from paper '{scope[name].paper}'")
            last = [(f"{place}.nodes.{name}", scale["nodes"].get(name, {}))]
            if not isinstance(raw, dict) or GRID not in raw:
                own[name] = self._own(paper["name"], name, raw, where, last)
                continue
            points = variants(name, raw[GRID], f"{where}.{GRID}")
            if taken := points.keys() & (paper["nodes"].keys() | scope.keys()):
                raise UserError(f"{where}.{GRID}", f"a variant of it and another node are both called '{min(taken)}'")
            self.grids[paper["name"]][name] = list(points)
            rest = {key: value for key, value in raw.items() if key != GRID}
            for variant, point in points.items():
                alone = (f"{place}.nodes.{variant}", scale["nodes"].get(variant, {}))
                layers = [*last, (f"{where}.{GRID}", nested(point)), alone]
                own[variant] = self._own(paper["name"], variant, rest, where, layers)
                own[variant].family, own[variant].point = name, point
        copied = {}
        for name in [name for name in scale["nodes"] if name not in own and name not in self.grids[paper["name"]]]:
            where = f"{place}.nodes.{name}"
            if name not in scope:
                raise UserError(where, unknown(name, [*own, *scope]))
            copied[name] = scope[name]
            written = [*scope[name].layers.written, *of_kind([paper], self.scale, scope[name].kind)]
            own[name] = self._node(paper["name"], scope[name].kind, name, where, [*written, (where, scale["nodes"][name])])
        scope.update(own)
        for node in own.values():
            with node.layers.blamed():
                link(node, scope, node.layers.where)
        _refuse_cycles(own, file)
        for node in own.values():
            if node.says.LIKE:
                node.options = node.origin.options | node.options
        for model in [*paper[EVALUATE]["models"], *self._evaluated(paper, copied)]:
            family, colon, part = model.partition(":")
            for name in self.grids[paper["name"]].get(family, [family]):
                self._evaluate(paper, f"{name}{colon}{part}", scope)

    def _evaluated(self, paper: dict, copied: dict[str, GraphNode]) -> list[str]:
        """What is evaluated of nodes that are copied: what their own papers evaluate and this one's claims name."""
        named = names(self._line(paper["name"]))
        asked = {id(node) for name, node in copied.items() if name in named}
        found = [node for node in self.nodes.values() if node.kind == EVALUATE and id(node.parents["model"]) in asked]
        return [model for node in found if (model := node.options["model"]) not in paper[EVALUATE]["models"]]

    def _evaluate(self, paper: dict, model: str, scope: dict[str, GraphNode]) -> None:
        where, models = f"{paper['file']}.evaluate.options", f"{paper['file']}.evaluate.models"
        name, colon, part = model.partition(":")
        if name not in scope:
            raise UserError(models, unknown(name, scope))
        if colon:
            require_part(scope[name], part, models)
        name, owner = _evaluation(name, part), scope[name].paper
        if (paper["name"], EVALUATE, name) in self.nodes:
            raise UserError(models, f"'{model}' would be evaluated as '{name}', and another node is: rename it")
        owned = self.nodes.get((owner, EVALUATE, name))
        written = [(where, {"kind": EVALUATE, "model": model}), *of_evaluation(self._line(paper["name"]), self.scale)]
        node = self._node(paper["name"], EVALUATE, name, where, written)
        with node.layers.blamed():
            link(node, scope, where)
            if owned:  # a shared node is evaluated once, by the paper that owns it
                _refuse_another(node, owned, where)
                del self.nodes[node.key]

    def _line(self, name: str) -> list[dict]:
        """The papers whose scales a paper's nodes follow, each once: those that it uses, and itself."""
        used = [paper for each in self.uses(name) for paper in self._line(each)]
        return list({paper["name"]: paper for paper in [*used, self.papers[name]]}.values())

    def _own(self, paper: str, name: str, raw: object, where: str, last: list[tuple[str, dict]]) -> GraphNode:
        """A node of the paper's section `nodes`, written at `where`; `last`: what the scale, and a grid, write for it besides."""
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
        tune = self.tune if "tune" in keys else {}
        shared = [("config.yaml", engines | tune), *of_kind(self._line(paper), self.scale, kind)]
        return self._node(paper, kind, name, where, [*shared, (where, raw), *last])

    def _node(self, paper: str, kind: str, name: str, where: str, written: list[tuple[str, dict]]) -> GraphNode:
        layers = Layers(where, written)
        raw = layers.merged()
        with layers.blamed():
            node = GraphNode(paper, kind, name, merge(KINDS[kind], raw, where), KINDS[kind], layers=layers)
        if (asked := node.options.get("benchmarks")) is not None:
            read = "benchmarks" in constant("evaluation/suites", node.options["suite"]["name"], "READS")
            asked += [task for task in self.benchmarks if read and task not in asked]
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
