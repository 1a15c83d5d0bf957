"""Which models a paper compares token by token, and what is said of two that speak different tokens."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from opd_steps.errors import UserError
from opd_steps.graph import agreement, outline
from opd_steps.graph.checked import checked
from opd_steps.graph.nodes import Graph
from opd_steps.store.artifacts import sealed
from opd_steps.store.files import write_json

TOKENIZER = {"eos": "<eos>", "chat_template_sha": "a", "digest": "d", "size": 12}
NODES = {name: {"kind": "model", "path": "org/x"} for name in ("student", "teacher", "stranger")}
NODES |= {
    "data": {"kind": "data"},
    "traces": {"kind": "rollout", "policy": "stranger", "data": "data"},
    "sft_traces": {"kind": "sft", "student": "student", "data": "traces"},
    "sft_data": {"kind": "sft", "student": "student", "data": "data"},
    "own": {"kind": "rollout", "policy": "sft_data", "data": "data"},
    "scores": {"kind": "score", "rollouts": "own", "teacher": "teacher"},
}


@pytest.fixture
def graph(tmp_path) -> Graph:
    OmegaConf.save({"paper": {"title": "t"}, "nodes": NODES}, tmp_path / "toy.yaml")
    return checked(Graph([str(tmp_path / "toy.yaml")]))


def made(results, model: str, **changes) -> None:
    folder = results / f"toy/model/{model}/seed0"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "manifest.json", sealed({"facts": {"tokenizer": TOKENIZER | changes}}))


def test_who_is_compared(graph):
    """The writer of SFT traces with the one that reads them, the scored with the scorer; a data set speaks no tokens."""
    pairs = {(p["node"], p["left"].split("/")[2], p["right"].split("/")[2]) for p in outline.preflight_pairs(graph, "toy", 0)}
    assert pairs == {("sft_traces", "student", "stranger"), ("scores", "student", "teacher")}


def test_only_what_is_known_is_looked_at(graph, tmp_path):
    there = lambda folder: (tmp_path / folder / "manifest.json").is_file()
    made(tmp_path, "student")
    assert agreement.check(graph, "toy", 0, tmp_path, there) == []
    with pytest.raises(UserError, match="does not exist yet"):
        agreement.check(graph, "toy", 0, tmp_path)
    made(tmp_path, "teacher")
    assert [p["node"] for p in agreement.check(graph, "toy", 0, tmp_path, there)] == ["scores"]
    made(tmp_path, "stranger", digest="other")
    for known in (there, lambda _: True):
        with pytest.raises(
            UserError, match=r"node sft_traces: .*student/seed0 and .*stranger/seed0 have different tokenizers$"
        ):
            agreement.check(graph, "toy", 0, tmp_path, known)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"eos": "<end>"}, "different end tokens: '<eos>' and '<end>'"),
        ({"chat_template_sha": "b"}, "different chat templates"),
        ({"digest": "e"}, "different tokenizers"),
    ],
)
def test_what_differs_is_said(graph, tmp_path, change, says):
    for model in ("student", "stranger"):
        made(tmp_path, model)
    made(tmp_path, "teacher", **change)
    with pytest.raises(UserError) as caught:
        agreement.check(graph, "toy", 0, tmp_path)
    assert str(caught.value).endswith(says)
    made(tmp_path, "teacher", size=99)  # a padded vocabulary is no difference
    assert len(agreement.check(graph, "toy", 0, tmp_path)) == 2
    assert agreement.models(graph, "toy", 0) == [
        "toy/data/data/seed0",
        *(f"toy/model/{m}/seed0" for m in ("stranger", "student", "teacher")),
    ]
