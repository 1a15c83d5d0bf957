"""No traceback reaches a user: whatever stands in a paper file or in config.yaml is taken, or refused in one line that names the place."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opd_steps import plan
from opd_steps.config.load import load_root, results_folder
from opd_steps.errors import UserError
from opd_steps.graph import Graph
from tests.pipeline.checkout import SMOKE

TEXT = SMOKE.read_bytes()
PAPER = yaml.safe_load(TEXT) | {"vars": {"a": 1}}
PAPER["nodes"]["rich"] = {  # what smoke.yaml leaves out
    **{
        "kind": "opd",
        "student": "student_sft",
        "teacher": "teacher",
        "reference": "base",
        "data": "data",
        "teacher_source": "ema",
    },
    **{"sampling": {"n": 2}, "buffer": {"batches": 2, "metric": "freshness", "below": 0.1}, "select": {"name": "uniform"}},
    "method": {"weight": [{"name": "freshness"}, "tip"], "transform": ["clip"], "add": [{"against": "reference", "coef": 0.1}]},
    "controllers": [{"name": "linear", "sets": "sampling.max_new_tokens", "first": 4, "last": 8}],
    "hooks": [{"name": "extrapolate"}],
}
EDITS = settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(-(10**25), 10**25),
    st.floats(),
    st.sampled_from(
        [
            "",
            "0100",
            "61e9540",
            "24:00:00",
            "no",
            "???",
            "${vars.a}",
            "${nodes}",
            "${",
            "a.b",
            "../x",
            "~x",
            "x\ny",
            "é",
            "data",
            "jsd",
        ]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3), max_leaves=5
)


def paths(value: object, at: tuple = ()) -> list[tuple]:
    """All places of nested data."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(path for key, inner in items for path in paths(inner, (*at, key)))]


PLACES = paths(PAPER)[1:]


@st.composite
def edited(draw, base=PAPER, places=PLACES):
    """The paper with one to three places replaced, taken out or given a further key."""
    made = copy.deepcopy(base)
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from(places))
        holder = made
        try:
            for key in way:
                holder = holder[key]
            how = draw(st.sampled_from(["replace", "replace", "delete", "add"]))
            if how == "replace":
                holder[last] = draw(VALUES)
            elif how == "delete":
                del holder[last]
            else:
                holder[last][draw(SCALARS)] = draw(VALUES)
        except (KeyError, IndexError, TypeError):
            continue  # an earlier edit took the place away
    return made


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "workflow/papers").mkdir(parents=True)
    (tmp_path / "workflow/papers/smoke.yaml").write_bytes(TEXT)
    return tmp_path


def refused_or_taken(call, *places: str) -> bool:
    """Whether it was taken; a refusal is one line that begins with the place."""
    try:
        call()
    except UserError as error:
        line = str(error)
        assert line.isprintable() and line.startswith(places) and error.message, line
        return False
    return True


def build(file: Path) -> None:
    """All that a dry run asks of the graph."""
    graph = Graph([str(file)])
    nodes = graph.wanted()
    for node in nodes:
        json.loads(node.job_config(0))
    json.dumps(plan.make(graph, {"seeds": [0]}), allow_nan=False)


@EDITS
@given(paper=edited())
def test_edited_papers(folder, paper):
    file = folder / "toy.yaml"
    file.write_text(yaml.safe_dump(paper, sort_keys=False, allow_unicode=True), encoding="utf-8")
    before = file.read_bytes()
    refused_or_taken(lambda: build(file), f"{file}:", "config.yaml: papers:", "workflow/papers/")
    assert file.read_bytes() == before


@EDITS
@given(
    at=st.integers(0, len(TEXT)),
    cut=st.integers(0, 20),
    put=st.binary(max_size=3) | st.sampled_from([b"- ", b": ", b"{", b"&a ", b"\t"]),
)
def test_damaged_files(folder, at, cut, put):
    file = folder / "toy.yaml"
    file.write_bytes(TEXT[:at] + put + TEXT[at + cut :])
    refused_or_taken(lambda: build(file), f"{file}:", "config.yaml: papers:", "workflow/papers/")


ROOT = {"papers": ["smoke"], "seeds": [0], "scale": "tiny", "paths": {"a": "b"}, "benchmarks": ["x"], "tracking": {"uri": "u"}}


@EDITS
@given(config=edited(ROOT, paths(ROOT)[1:]))
def test_edited_configs_in_the_file_and_on_the_command_line(folder, config):
    def load() -> None:
        root = load_root({k: v for k, v in given.items() if k != "pathvars"})
        results_folder(given)
        Graph.of(root).wanted()

    (folder / "config.yaml").write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    given = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    refused_or_taken(load, "config.yaml:", "workflow/papers/smoke.yaml:")
    (folder / "config.yaml").unlink()
    given = config
    refused_or_taken(load, "--config:", "config.yaml:", "workflow/papers/smoke.yaml:")


@EDITS
@given(name=st.text(max_size=300), seeds=st.lists(st.integers(-2, 5) | st.integers(0, 10**30), max_size=4))
def test_any_name_and_seeds(folder, name, seeds):
    taken = refused_or_taken(lambda: load_root({"papers": [name], "seeds": seeds}), "--config:")
    assert not taken or name in ("smoke", "workflow/papers/smoke.yaml")
