"""The teachers and learners of an opd node by name, the short forms `teacher`, `scores` and `reference` among them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from opd_steps.config.asks import NOTHING, Asks, union
from opd_steps.config.needs import GROUPS, asks, layer_pairs, names, others, terms
from opd_steps.config.plugs import constant
from opd_steps.config.versions import versions

SELF = "self"
SOURCES = "teachers/sources"
PLAIN = {"weights": {"name": "frozen"}, "context": {"name": "plain"}, "engine": {"name": "local"}, "dtype": None}


@dataclass(frozen=True)
class Teaching:
    """name      as terms name it in `against`
    model     the role of its model among the node's parents, "" for none
    scores    the role of its scores table, "" for none
    own       of `model: self` or `model: self:<learner>`: that learner's name, "" for the student; None where it is a node's model
    weights, context, engine   checked options of plugs
    dtype     of its model; None: the node's
    at        where its options stand in the node's
    """

    name: str
    model: str
    scores: str
    own: str | None
    weights: dict
    context: dict
    engine: dict
    dtype: str | None
    at: str

    @property
    def others_by_option(self) -> dict[str, list[str]]:
        """Names of the teachers that its weights name: those among whom rows are routed."""
        return {key: names(self.weights[key]) for key in constant(SOURCES, self.weights["name"], "OTHERS")}

    @property
    def others(self) -> list[str]:
        return [name for found in self.others_by_option.values() for name in found]

    @property
    def engine_key(self) -> str:
        """The option that names its engine."""
        return f"{self.at}.engine" if self.at else "teacher_engine"


def named(options: dict, roles: Collection[str]) -> dict[str, Teaching]:
    """Every teacher of an opd node. `roles`: what the node reads; a reference that nothing stands for is none."""
    there = lambda role: role if role in roles else ""
    found = {}
    if there("teacher") or there("scores"):
        parts = {"weights": options["teacher_source"], "context": options["context"], "engine": options["teacher_engine"]}
        parts["dtype"] = options["teacher_dtype"]
        found["teacher"] = Teaching("teacher", there("teacher"), there("scores"), None, **parts, at="")
    if there("reference"):
        found["reference"] = Teaching("reference", "reference", "", None, **PLAIN, at="")
    for name, view in options["teachers"].items():
        at = f"teachers.{name}"
        parts = {key: view[key] for key in PLAIN}
        found[name] = Teaching(
            name, there(f"{at}.model"), there(f"{at}.scores"), own_learner(view.get("model")), **parts, at=at
        )
    return found


def own_learner(model: object) -> str | None:
    """Of `self` and `self:<learner>` the learner's name, "" for the student; None where a node is named, or nothing."""
    head, _, learner = str(model).partition(":")
    return learner if head == SELF else None


def starts(options: dict) -> dict[str, str]:
    """Learner -> the role of the model that it starts from; "" is the student."""
    return {"": "student"} | {name: f"learners.{name}.model" for name in options["learners"]}


def learners(options: dict) -> Iterator[tuple[str, dict]]:
    """(name, method) of every learner; "" is the student."""
    yield "", options["method"]
    for name, learner in options["learners"].items():
        yield name, learner["method"]


def engines(options: dict) -> dict[str, dict]:
    """Every inference engine that a node's options name, by the option that does: engine, teacher_engine, teachers.<name>.engine."""
    found = {key: options[key] for key in ("engine", "teacher_engine") if key in options}
    named = options.get("teachers", {}).items()
    return found | {f"teachers.{name}.engine": view["engine"] for name, view in named if "engine" in view}


def sources(method: dict) -> Iterator[dict]:
    """The prefix sources that a method's terms look at: its own, then those of their `rows`."""
    if any(row["rows"] is None for row in terms(method)):
        yield method["prefix"]
    for row in terms(method):
        if row["rows"] is not None:
            yield row["rows"]


def asked(options: dict, teachings: Mapping[str, Teaching], learner: str | None = None) -> dict[str, Asks]:
    """What all terms of a learner (of all), as they stand now or as a controller may make them, ask of whom; and who samples or judges."""
    parts = []
    for version in versions(options):
        for name, method in learners(version):
            if learner not in (None, name):
                continue
            parts += [asks(row) for row in terms(method)]
            parts += [{name: Asks(sampled=True)} for source in sources(method) for name in samplers(source)]
    for judge in options["judges"] if not learner else ():
        parts += others("judges", judge)
    found = union(parts)
    found.pop("", None)
    for name in list(found):
        for other in teachings[name].others if name in teachings else ():
            found[other] = found.get(other, NOTHING) | found[name]
    return found


def hidden_pairs(options: dict, teacher: str, learner: str = "") -> list[tuple[int, int]]:
    """(the learner's layer, the teacher's) whose hidden states its method holds side by side, under any version of the options."""
    rows = [row for version in versions(options) for row in terms(method_of(version, learner)) if row["against"] == teacher]
    hidden = [
        row["estimator"] for row in rows if constant(GROUPS["estimator"], row["estimator"]["name"], "TEACHER") == "hidden"
    ]
    return list(dict.fromkeys(pair for plug in hidden for pair in layer_pairs(plug)))


def samples(options: dict, learner: str) -> bool:
    """Whether the learner itself makes rows, under any version of the options; the student is asked by hooks as well."""
    found = (source for version in versions(options) for source in sources(method_of(version, learner)))
    return not learner or any(constant("prefixes", source["name"], "OWN") for source in found)


def text_columns(options: dict) -> Iterator[str]:
    """Text columns of the data that a source of any learner reads, under every version of the options."""
    for version in versions(options):
        for _, method in learners(version):
            for source in sources(method):
                if constant("prefixes", source["name"], "TEXTS"):
                    yield source["column"]


def samplers(source: dict) -> list[str]:
    """The teachers whose models sample for a prefix source: the one that it always asks, or those that its options name."""
    found = [constant("prefixes", source["name"], "SAMPLER")]
    return [name for name in (*found, *union(others("prefixes", source))) if name]


def origin(source: dict, options: dict) -> dict:
    """Where a prefix source's rows come from at first: another learner's prefix, where it gives that one's."""
    while constant("prefixes", source["name"], "LEARNER"):
        source = method_of(options, source["learner"])["prefix"]
    return source


def method_of(options: dict, learner: str) -> dict:
    """The method of a learner."""
    return dict(learners(options))[learner]
