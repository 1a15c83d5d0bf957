"""Debates as files: a node whose data hold what was said, what trains on them, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml

from opd_steps.config.load import load_root
from opd_steps.config.merge import merge
from opd_steps.errors import UserError
from opd_steps.graph.checked import checked
from opd_steps.graph.kinds import KINDS
from opd_steps.graph.nodes import Graph
from opd_steps.graph.row_lengths import Rows
from opd_steps.steps.debate import run
from opd_steps.store.artifacts import Job, read_manifest
from opd_steps.store.jsonl import read_jsonl
from opd_steps.tasks.debate import Debate
from opd_steps.tasks.errands import Errand
from opd_steps.tasks.room import require_room
from opd_steps.tasks.sources.debated import Debated
from opd_steps.tasks.sources.domains import Domains
from opd_steps.tasks.sources.walk import Walk
from opd_steps.tasks.transcripts.marks import Marks
from tests.pipeline.stages import Stages

WALK = {
    "name": "walk",
    "nodes": 8,
    "chords": 3,
    "starts": 4,
    "way_points": 0,
    "held_out": 0.25,
    "train": 12,
    "test": 6,
    "ood": 0,
}
BOTH = {"name": "domains", "one": WALK, "other": WALK | {"graph": 1}, "names": ["first", "second"], "capitals": True}
DATA = {"task": {"name": "walk_slips", "slip": 0.3}, "source": BOTH, "verifier": {"name": "walk"}}
LESSONS = DATA | {"source": {"name": "debated", "of": BOTH, "knows": "first"}}
MODEL = {
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
    "head_dim": 8, "max_position_embeddings": 256, "initializer_range": 0.3,
}  # fmt: skip
SHORT = {"max_new_tokens": 6}
EXPERTS = {"experts.0": "model/a/seed1", "experts.1": "model/b/seed2"}


@pytest.fixture(scope="module")
def stages(tmp_path_factory) -> Stages:
    found = Stages(tmp_path_factory.mktemp("results"))
    found.run("lessons", "data", **LESSONS)
    found.run("data", "data", **DATA)
    for name, seed in (("student", 0), ("a", 1), ("b", 2)):
        found.run(name, "model", {"data": "data/lessons"}, seed=seed, config=MODEL)
    return found


def debate(stages: Stages, name: str, **options) -> tuple[dict, list[dict], list[dict]]:
    """(figures, rows of its data, rows of the debate)."""
    given = {"kind": "debate", "data": "d", "show": "marks", "sampling": SHORT, "experts": ["a", "b"], **options}
    checked_options = {
        k: v for k, v in merge(KINDS["debate"], given, name).items() if k not in ("kind", "seed", "resources", "data")
    }
    parents = {"data": "p/data/data/seed0"} | {role: f"p/{place}" for role, place in EXPERTS.items()}
    config = {"kind": "debate", "options": checked_options | {"experts": [None, None]}, "parents": parents, "seed": 0}
    if not (stages.results / f"p/debate/{name}/seed0").exists():
        with Job(config, {}, stages.results / f"p/debate/{name}/seed0/manifest.json", {}) as job:
            run(job)
    found = read_manifest(stages.results / f"p/debate/{name}/seed0")
    folder = stages.results / f"p/debate/{name}/seed0"
    return found["metrics"], read_jsonl(stages.results / "p/data/data/seed0/train.jsonl"), read_jsonl(folder / "train.jsonl")


def test_a_debate_is_its_data_with_what_was_said(stages):
    figures, plain, rows = debate(stages, "two", rounds=2)
    assert [{k: v for k, v in row.items() if k != "debates"} for row in rows] == plain
    held = [Debate(**each) for row in rows for each in row["debates"]]
    assert len(held) == len(plain) and all([(k, r) for k, r, _ in d.parts] == [(0, 0), (1, 0), (0, 1), (1, 1)] for d in held)
    for row, d in zip(rows, held, strict=True):
        assert d.shown[0] == "".join(f"{k + 1}{text}|" for k, _, text in d.parts) + row["prompt"]
    assert figures["debate/generations"] == 2 * 2 and figures["debate/states"] == len(plain) and figures["debate/unstated"] == 1
    right = np.mean(
        [
            bool(t) and Errand.read(row["answer"]).right(t)
            for row, d in zip(rows, held, strict=True)
            for _, r, t in d.parts
            if r == 0
        ]
    )
    assert figures["debate/right_first"] == pytest.approx(right)
    assert 0 <= figures["debate/split"] <= 2 * figures["debate/right_first"]
    one = read_manifest(stages.results / "p/debate/two/seed0")["facts"]
    assert len(one["experts"]) == 2 and one["task"] == DATA["task"] and one["splits"]["train"] == len(plain)
    for split in ("test", "ood"):
        texts = [(stages.results / f"p/{place}/seed0/{split}.jsonl").read_bytes() for place in ("data/data", "debate/two")]
        assert texts[0] == texts[1]


def test_a_debate_about_turns_has_one_for_each(stages):
    figures, plain, rows = debate(stages, "turns", states="turns", rounds=1, limit=9)
    assert len(rows) == 9
    counts = [len(row["debates"]) for row in rows]
    slips = [row["solution"].count("~") for row in plain[:9]]
    assert counts == [s + 1 for s in slips] and max(counts) > 1  # the end token stands behind the last
    assert figures["debate/generations"] == 2 and figures["debate/states"] == sum(counts)
    again = debate(stages, "turns_again", states="turns", rounds=1, limit=9)
    assert again[2] == rows  # a function of the seed


@pytest.mark.parametrize("history", ["prompts", "dataset", "student"])
def test_a_student_learns_from_debates_of_files_and_of_the_moment(stages, history):
    debate(stages, f"for_{history}", states="turns" if history == "dataset" else "prompts")
    live = {"debaters": ["first", "second"], "show": {"name": "marks"}} if history == "student" else {}
    prefix = {} if history == "prompts" else {"prefix": {"name": "turns", "history": history, **live}}
    term = {"signal": "rkl", "support": "full", "estimator": "exact", "weight": [{"name": "confidence", "by": "logprob"}]}
    teachers = {name: {"context": {"name": "debate", "expert": k}} for k, name in enumerate(("first", "second"))}
    data = "data/data" if history == "student" else f"debate/for_{history}"
    parents = {
        "student": "model/student",
        "data": data,
        "teachers.first.model": EXPERTS["experts.0"],
        "teachers.second.model": EXPERTS["experts.1"],
    }
    method = {"aggregate": "seq_mean", "against": "first", **term, "add": [{"against": "second", **term}], **prefix}
    found = stages.run(f"opd_{history}", "opd", parents, teachers=teachers, method=method, steps=2, prompts=4, sampling=SHORT)
    figures = found["metrics"]
    assert figures["train/scored"] == figures["train/add0_scored"] >= 4
    assert figures["train/confidence"] + figures["train/add0_confidence"] == pytest.approx(1)


def graph(tmp_path, **nodes) -> Graph:
    toy = {
        "d": {"kind": "data", **DATA},
        "m": {"kind": "model", "data": "d", "config": MODEL},
        "talk": {"kind": "debate", "data": "d", "experts": ["m", "m"], "show": "marks"},
        **nodes,
    }
    file = tmp_path / "toy.yaml"
    file.write_text(yaml.safe_dump({"paper": {"title": "Toy"}, "nodes": toy}, sort_keys=False))
    return checked(Graph.of(load_root({"papers": [str(file)]})))


def learner(**changes) -> dict:
    teachers = {"t": {"model": "m", "context": {"name": "debate", "expert": 1}}}
    return {"kind": "opd", "student": "m", "data": "talk", "teachers": teachers, "method": {"against": "t"}, **changes}


def test_who_reads_a_debate_reads_its_data(tmp_path):
    """Its options, its world and verifier in the code of the reader, and rows for a preflight that needs no debate."""
    found = graph(tmp_path, x=learner())
    node, talk = found.find("toy", "x"), found.find("toy", "talk")
    assert talk.options["task"] == talk.parents["data"].options["task"]
    assert {
        "opd_steps/tasks/verifiers/walk.py",
        "opd_steps/tasks/slip_pool.py",
        "opd_steps/tasks/debate.py",
    } <= node.code.keys()
    rows = node.says.rows(node, 0)
    assert {r.data for r in rows} == {"toy/data/d/seed0"} and max(r.shown for r in rows) == 2 * 2 * 32
    job = json.loads(talk.job_config(0))
    assert set(job["parents"]) == {"data", "experts.0", "experts.1"}


@pytest.mark.parametrize(
    "nodes, message",
    [
        ({"x": learner(data="d")}, "x.teachers.t.context.expert: found 1, and nobody has debated"),
        ({"x": learner(teachers={"t": {"model": "m", "context": {"name": "debate", "expert": 2}}})}, "the debate has 2 experts"),
        ({"x": learner(method={"against": "t", "prefix": "turns"})}, "x.data: nobody has debated about states that the student comes to"),
        ({"x": learner(method={"against": "t", "prefix": {"name": "turns", "history": "dataset"}})}, "its debates are about other states"),
        ({"again": {"kind": "debate", "data": "talk", "experts": ["m", "m"]}}, "'talk' is a debate already"),
        ({"one": {"kind": "debate", "data": "d", "experts": []}}, "len\\(experts\\) >= 1"),
        ({"many": {"kind": "debate", "data": "d", "experts": ["m", "m"], "sampling": {"n": 2}}}, "each expert replies once a round"),
    ],
)  # fmt: skip
def test_mistakes_are_told_before_anything_runs(tmp_path, nodes, message):
    with pytest.raises(UserError, match=message):
        graph(tmp_path, **nodes)


def test_a_transcript_that_does_not_fit_is_told_by_preflight():
    rows = Rows("x", "d", "m", ("m",), answer=20, shown=90)
    require_room(rows, 10, "here", {"positions are": 120})
    with pytest.raises(UserError, match="a debate of up to 90, and an answer of up to 20 makes 121"):
        require_room(rows, 11, "here", {"positions are": 120})


def test_lessons_show_debates_of_the_other_domain_always():
    """Each reply is right or wrong as said; behind a debate stands what the right ones say; who knows a domain is asked it plainly too."""
    walk = Walk(nodes=14, chords=3, starts=4, way_points=1, train=300, test=20, ood=0)
    source = Domains(walk, Walk(**{**vars(walk), "graph": 1}), ["first", "second"], capitals=True)
    rows = Debated(source, Marks(), share=0.5, knows="first", slip=0.1, wrong=0.7, begun=0.3).rows(0)["train"]
    shown = {d: [("corpus_prompt" in r) for r in rows if r["meta"]["domain"] == d] for d in ("first", "second")}
    assert all(shown["second"]) and 0.4 < np.mean(shown["first"]) < 0.6
    right = {("first", "1"): [], ("first", "2"): [], ("second", "1"): [], ("second", "2"): []}
    begun = []
    for r in (r for r in rows if "corpus_prompt" in r):
        errand, (*parts, rest) = Errand.read(r["answer"]), r["corpus_prompt"].split("|")
        said = rest.removeprefix(r["prompt"])
        assert errand.right(said + r["corpus"])
        begun.append(bool(said))
        for part in parts:
            right[r["meta"]["domain"], part[0]].append(part[1:] == r["corpus"])
    share = {key: np.mean(found) for key, found in right.items()}
    assert share["first", "1"] > 0.85 and share["second", "2"] > 0.85
    assert 0.2 < share["first", "2"] < 0.4 and 0.2 < share["second", "1"] < 0.4
    assert 0.2 < np.mean(begun) < 0.4
    with pytest.raises(UserError, match="an expert for each domain"):
        Debated(walk, Marks()).rows(0)


def test_lessons_in_a_world_that_slips_keep_what_stands_behind_a_debate(stages):
    """The other rows are written anew in that world; all keep their domain."""
    rows = read_jsonl(stages.results / "p/data/lessons/seed0/train.jsonl")
    shown, plain = ([r for r in rows if ("corpus_prompt" in r) == there] for there in (True, False))
    assert shown and not any("~" in r["corpus"] for r in shown) and any("~" in r["corpus"] for r in plain)
    for r in shown:
        assert Errand.read(r["answer"]).right(r["corpus_prompt"].rpartition("|")[2].removeprefix(r["prompt"]) + r["corpus"])
    assert {r["meta"]["domain"] for r in rows} == {"first", "second"}
    assert all("strays" not in r["meta"] and r["meta"]["slips"] == r["solution"].count("~") for r in rows)
