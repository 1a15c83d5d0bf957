"""Presets of scale paper: what no job of theirs could find out before a GPU and a download are there."""

from __future__ import annotations

import pytest

from opd_steps.config.plugs import constant
from opd_steps.graph.cost.known import FAMILIES, of_path, published
from tests.unit.test_papers import CASES, ROOT, graph

PRESETS = [paper for paper, scale in CASES if scale == "paper"]
PROMPT = 1024  # tokens: what most of the sources cut prompts at


@pytest.fixture(scope="module")
def presets():
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return graph(papers=PRESETS, scale="paper")


def test_there_are_those_that_the_page_names(presets):
    page = (ROOT / "docs/plan.md").read_text()
    assert len(PRESETS) >= 7 and all(f"](../workflow/papers/paper/{paper}.yaml)" in page for paper in PRESETS)
    assert {path.stem for path in (ROOT / "workflow/papers/paper").glob("*.yaml")} == set(PRESETS)


def test_models_are_published_ones_whose_shapes_are_known(presets):
    """But for families that the plan has no estimate of."""
    models = [node for node in presets.nodes.values() if node.kind == "model" and node.options["family"]["name"] in FAMILIES]
    assert len(models) > 5 and all(node.options["path"] in published() for node in models)


def test_answers_fit_into_the_positions_of_all_models_that_read_them(presets):
    """Beside prompts of some length: else the preflight ends the run, hours after its start."""
    models = {
        n.path(0): (n.options["path"], None, n.options["family"]["name"]) for n in presets.nodes.values() if n.kind == "model"
    }
    looked = 0
    for node in presets.nodes.values():
        source = node.parents["data"].options.get("source", {}) if "data" in node.parents else {}
        prompt = source.get("begin", PROMPT)  # bytes that a prompt is cut at
        for rows in node.says.rows(node, 0):
            for folder in rows.models:
                if models[folder][0] not in published():
                    continue
                looked += 1
                assert prompt + rows.answer <= of_path(*models[folder]).longest, (node.key, models[folder])
            assert all(PROMPT + rows.answer <= most for _, most in rows.caps), node.key
    assert looked > 100


def test_trainings_compute_in_bf16_over_fp32_masters_or_adapters_with_blocks_recomputed(presets):
    trainings = [node for node in presets.nodes.values() if node.says.TRAINS and node.kind != "merge"]
    for node in trainings:
        o = node.options
        if node.paper == "dp_opd":  # GPT-2, and gradients of single records, which one process makes
            continue
        family = node.maker_of(node.says.START).options["family"]["name"]
        parallel, lacks = (constant("models/families", family, name) for name in ("PARALLEL", "LACKS"))
        shared = parallel and o.get("prompts", o.get("batch")) > 1  # of one row an update there is nothing to share
        assert o["dtype"] == "bfloat16" and o["resources"]["gpu"] > shared, node.key
        assert o["recompute"] or "recompute" in lacks, node.key
        assert o["weights"] == "float32" or o["tune"]["name"] == "lora", node.key
    assert len(trainings) > 20


def test_avg_at_k_is_sampled_by_vllm(presets):
    """But for `own/` figures, at lengths that a benchmark of the source has; what no engine samples has a suite of its own."""
    measured = [n for n in presets.nodes.values() if n.kind == "evaluate" and n.options["suite"]["name"] == "lm_eval"]
    assert len(measured) > 50
    for node in measured:
        o = node.options
        assert o["backend"] == "vllm", node.key
        assert o["k"] == 0 or (o["k"] >= 4 and o["max_new_tokens"] >= 4096), node.key  # 0: greedily, once
        assert o["options"]["max_model_len"] >= o["max_new_tokens"] + PROMPT, node.key
