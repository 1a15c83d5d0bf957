"""`tune` on nodes: from the command line, refused where it cannot be, one copy of the model in memory, one adapter on another."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from opd_steps.config.load import load_root
from opd_steps.errors import UserError
from opd_steps.graph.checked import checked
from opd_steps.graph.checks import tune as checks
from opd_steps.graph.nodes import Graph
from opd_steps.models import ready
from opd_steps.models.bases import weights_digest
from opd_steps.models.folder import load_model, where
from opd_steps.steps import _teachers
from opd_steps.store.artifacts import read_manifest
from tests.pipeline.stages import Stages
from tests.unit.opd_toys import NODE, PARENTS, nodes, run

LORA = {"name": "lora", "r": 4}
PAPER = """
paper: {title: Toy}
nodes:
  data: {kind: data, source: {name: arithmetic, train: 40, test: 4, ood: 4}}
  small: {kind: model, data: data, config: {hidden_size: 16}}
  base: {kind: pretrain, model: small, data: data, steps: 4}
  judged: {kind: rl, policy: base, data: data}
  shown: {kind: sft, student: base, data: data}
  student: {kind: opd, student: shown, teacher: judged, data: data, learners: {twin: {model: base}}}
  whole: {kind: opd, student: shown, teacher: judged, data: data, tune: full}
"""


def graph(tmp_path, *edits: tuple[str, str], tune: object = "full") -> Graph:
    text = PAPER
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "toy.yaml").write_text(text)
    return checked(Graph.of(load_root({"papers": [str(tmp_path / "toy.yaml")], "tune": tune})))


def test_the_command_line_sets_it_for_all_that_name_none(tmp_path):
    tuned = lambda found: {node.name: node.options["tune"] for node in found.nodes.values() if "tune" in node.options}
    assert {tune["name"] for tune in tuned(graph(tmp_path)).values()} == {"full"}
    found = tuned(graph(tmp_path, ("steps: 4", "steps: 4, tune: {name: lora, r: 2}"), tune={"name": "lora", "alpha": "8"}))
    one = {"name": "lora", "r": 16, "alpha": 8.0, "dropout": 0.0, "targets": []}
    assert found == {
        "base": one | {"r": 2},
        "judged": one,
        "shown": one,
        "student": one,
        "whole": {"name": "full"},
    }
    assert tuned(graph(tmp_path, tune="lora"))["student"]["alpha"] == 32.0


ON_STUDENT = "learners: {twin: {model: base}}"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "tune: full",
            "tune: {name: lora, targets: [lm_head]}",
            "whole.tune.targets: expected 'lm_head' not in targets; found",
        ),
        ("tune: full", "tune: {name: lora, targets: [q, q]}", r"whole.tune.targets: expected unique\(targets\)"),
        ("tune: full", "tune: lora, published: bfloat16", "whole.published: an adapter is published in fp32; leave it out"),
        ("tune: full", "tune: {name: lora, r: 0}", "whole.tune.r: expected at least 1, found 0"),
        ("tune: full", "tune: lore", "whole.tune: no tune named 'lore'. Did you mean: 'lora'"),
        (
            "tune: full",
            "tune: {name: lora, dropout: .1}",
            "whole.tune.dropout: expected 0, found 0.1: opd trains without dropout",
        ),
        (
            "tune: full",
            "tune: lora, hooks: [{name: effopd}]",
            r"whole.hooks\[0\]: effopd moves the model's own weights, which tune lora leaves as they are: tune full, or leave it out",
        ),
        (
            "tune: full",
            "tune: lora, update_of: judged, hooks: [{name: sparse}]",
            r"whole.hooks\[0\]: sparse moves the model's own weights",
        ),
    ],
)
def test_what_cannot_be_is_refused_when_the_graph_is_built(tmp_path, old, new, says):
    with pytest.raises(UserError, match=says):
        graph(tmp_path, (old, new))


def test_from_the_command_line_too(tmp_path):
    with pytest.raises(UserError, match=r"config.yaml: tune.dropout: expected 0, found 0.1: rl trains without"):
        graph(tmp_path, tune={"name": "lora", "dropout": "0.1"})
    with pytest.raises(UserError, match=r"tune.targets: expected 'embed_tokens' not in targets"):
        graph(tmp_path, tune={"name": "lora", "targets": ["embed_tokens"]})
    with pytest.raises(UserError, match="no tune named 'adapter'"):
        graph(tmp_path, tune="adapter")


def test_a_family_that_takes_no_adapters(tmp_path, monkeypatch):
    known = checks.constant
    monkeypatch.setattr(checks, "constant", lambda *asked: False if asked[0] == checks.FAMILIES else known(*asked))
    with pytest.raises(UserError, match=r"base.tune: lora adapts no causal_lm model: use full"):
        graph(tmp_path, ("steps: 4", "steps: 4, tune: lora"))


# ---- runs


@pytest.fixture
def loads(monkeypatch) -> list[str]:
    """The folders of the models that are read."""
    found: list[str] = []
    known = ready.load_model

    def load(folder, **how):
        found.append(Path(folder).parts[-2])
        return known(folder, **how)

    monkeypatch.setattr(ready, "load_model", load)
    return found


ANCHORED = {
    "method": {"add": [{"against": "reference", "estimator": "k3"}]},
    "parents": {"reference": PARENTS["student"]},
    "steps": 3,
}


def test_the_start_as_a_teacher_is_the_model_with_its_adapter_off(tmp_path, loads):
    one = run(tmp_path / "one", tune=LORA, **ANCHORED)
    assert loads == ["student", "teacher"]
    loads.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_teachers, "adapts", lambda job: False)
        two = run(tmp_path / "two", tune=LORA, **ANCHORED)
    assert sorted(loads) == ["student", "student", "teacher"]
    assert one.manifest["files"] == two.manifest["files"]


def test_a_teacher_that_samples_has_a_copy_of_its_own(tmp_path, loads):
    mixed = {"method": {"prefix": {"name": "token_mix"}}, "parents": {"teacher": PARENTS["student"], "reference": None}}
    run(tmp_path, tune=LORA, steps=2, **mixed)
    assert loads == ["student", "student"]


def test_the_anchor_of_rl_is_the_model_with_its_adapter_off(tmp_path, loads):
    (tmp_path / "p").symlink_to(nodes() / "p")
    stages = Stages(tmp_path)
    small = {"steps": 3, "prompts": 3, "sampling": {"n": 4, "max_new_tokens": 4}, "optim": {"lr": 0.01}, "kl": 0.1}
    rows = {"policy": "model/student", "data": "data/data"}
    run = lambda tune: stages.run(f"tuned_{tune['name']}", "rl", rows, tune=tune, **small)
    made = {tune["name"]: run(tune) for tune in (LORA, {"name": "full"})}
    assert loads == ["student", "student", "student"]  # one, then two
    assert "adapter/adapter_model.safetensors" in made["lora"]["files"]
    assert made["lora"]["metrics"].keys() == made["full"]["metrics"].keys()


def test_one_adapter_on_another(tmp_path):
    """sft on opd on model: each holds its own adapter, and a reader gets the sum of all."""
    run(tmp_path, tune=LORA, steps=4, keep={"early": 2})
    stages = Stages(tmp_path)
    made = {}
    for part in ("", ":early"):
        rows = {"student": f"opd/toy/seed3{part}", "data": "data/data"}
        tune = LORA | {"dropout": 0.2}
        made[part] = stages.run(f"next{part[1:]}", "sft", rows, tune=tune, steps=3, batch=4, optim={"lr": 0.01})
    folder = tmp_path / "p/sft/next/seed0"
    assert (made[""]["files"].keys()) == {
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "base.json",
        "metrics.jsonl",
    }
    assert where(folder) == where(tmp_path / "p/model/student/seed0")
    start, first, last = (load_model(f).state_dict() for f in (tmp_path / "p/model/student/seed0", tmp_path / NODE, folder))
    name = "model.layers.0.mlp.up_proj.weight"
    gaps = [float((a[name] - b[name]).norm()) for a, b in ((start, first), (first, last), (start, last))]
    assert all(gap > 1e-3 for gap in gaps) and gaps[2] <= gaps[0] + gaps[1]
    assert torch.equal(start["model.embed_tokens.weight"], last["model.embed_tokens.weight"])
    early = load_model(tmp_path / "p/sft/nextearly/seed0").state_dict()
    assert not torch.equal(early[name], last[name])


def test_equal_adapters_on_different_bases_are_different_weights(tmp_path):
    made = {}
    for student in ("student", "untied"):
        manifest = run(
            tmp_path / student, tune=LORA, steps=2, optim={"lr": 0.0}, parents={"student": f"model/{student}/seed0"}
        ).manifest
        made[student] = (manifest["files"]["adapter/adapter_model.safetensors"], weights_digest(manifest))
        assert read_manifest(tmp_path / student / NODE)["facts"]["family"] == {"name": "causal_lm"}
    assert made["student"][1] != made["untied"][1]
    assert yaml.safe_load((tmp_path / "untied" / NODE / "base.json").read_text())["path"] == "p/model/untied/seed0"
