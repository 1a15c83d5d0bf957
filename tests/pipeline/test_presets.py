"""Presets of scale paper, all of their nodes but most evaluations, on one narrow layer: two steps each by the steps' own code.

Their real widths: `python -m tests.bench.presets`.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from opd_steps.config.plugs import load
from opd_steps.graph import agreement
from opd_steps.graph.checked import wanted
from opd_steps.models.folder import load_tokenizer
from opd_steps.store.artifacts import read_manifest
from opd_steps.tasks.pool import PromptPool
from opd_steps.tasks.room import check_rows
from opd_steps.tasks.sources.continued import fitting
from opd_steps.tasks.verifiers.tagged import Tagged
from tests.pipeline.inprocess import run_node
from tests.pipeline.presets import FIRST, lay_out, uncut
from tests.unit.libero_toys import write_libero
from tests.unit.test_papers import CASES

ROOT = Path(__file__).parents[2]
PRESETS = [paper for paper, scale in CASES if scale == "paper"]


@pytest.fixture(scope="module", params=PRESETS)
def preset(request, tmp_path_factory):
    """(graph, results) of one."""
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "cache")
        patch.setenv("DISTILLERY_LIBERO_PYTHON", str(write_libero(folder / "libero")))
        # no letter of such a model is right: nobody would be told of another's success
        patch.setattr(Tagged, "score", lambda _, completion, answer: float(len(completion) % 2))
        graph, evaluated = lay_out(request.param, folder), set()
        for node in wanted(graph):
            if node.kind == "evaluate":  # one, of the preset's own lengths and sampling
                if evaluated:
                    continue
                evaluated.add(node.name)
            run_node(node, folder / "results", 0)
        yield graph, folder / "results"


def made(graph, results, kind: str) -> list[tuple[object, Path]]:
    found = [(node, results / node.path(0)) for node in graph.nodes.values() if node.kind == kind]
    return [(node, folder) for node, folder in found if folder.exists()]


def test_each_node_runs_and_measures_numbers(preset):
    graph, results = preset
    trained = [found for kind in ("opd", "sft", "rl") for found in made(graph, results, kind)]
    assert len(trained) >= 2 and (made(graph, results, "evaluate") or made(graph, results, "analyze"))
    for node, folder in trained:
        metrics = read_manifest(folder)["metrics"]
        assert math.isfinite(metrics["train/loss"]), node.key
        parts = {*node.options["keep"], *node.options.get("learners", ())}
        assert {part.name for part in (folder / "parts").glob("*")} == parts


def test_its_prompts_are_what_its_models_own_template_writes(preset):
    """With thinking on and off as the preset says, in its words, from its columns: byte by byte."""
    graph, results = preset
    models = made(graph, results, "model")
    for node, folder in made(graph, results, "data"):
        if node.options["task"]["name"] == "gallery":
            check_seen(node, folder, models)
            continue
        if node.options["task"]["name"] in ("captions", "libero"):
            continue  # no chat
        told, split = node.options["template"], "train" if read_manifest(folder)["facts"]["splits"]["train"] else "test"
        for _, model in models:
            tokenizer = load_tokenizer(model)
            if node.options["chat"] and told and "enable_thinking" not in str(tokenizer.chat_template):
                continue  # a checkpoint as it is published; what stands on it speaks as another
            pool = PromptPool.load(folder, split, tokenizer)
            prompt, source = pool.rows[0]["prompt"], node.options["source"]
            of = source if source["name"] == "mixture" else source.get("of", source)
            asked = (of.get("wording") or "{prompt}").replace("{prompt}", f"What is 0 + 1 in {node.name}?")
            assert of["name"] != "hf" or prompt == (fitting(asked, FIRST) if source["name"] == "continued" else asked)
            system = [{"role": "system", "content": said}] if (said := node.options["system"]) is not None else []
            chat = [*system, {"role": "user", "content": prompt}]
            theirs = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, **told)
            assert tokenizer.decode(pool.contexts([0])[0]) == (theirs if node.options["chat"] else prompt)


def check_seen(node, folder: Path, models: list) -> None:
    """What is seen stands in front of the question, in the words of the model's own template."""
    for made_by, model in models:
        policy = load("models/families", made_by.options["family"]).policy(model)
        (context,) = load("tasks/worlds", node.options["task"]).pool(folder, "train", policy, 1).contexts([0])
        seen = policy.tokenizer.decode(policy.reading.pictured(tuple(context["seen"].shape), context["rate"]))
        chat = [{"role": "user", "content": seen + context["prompt"]}]
        theirs = policy.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        assert policy.tokenizer.decode(policy.tokens(context)) == theirs and context["prompt"].startswith("What is in")


def test_its_own_lengths_and_models_pass_the_preflight(preset, monkeypatch):
    """Not those that the runs above are cut to."""
    monkeypatch.chdir(ROOT)
    whole, results = uncut(preset[0].selected[0]), preset[1]
    agreement.check(whole, whole.selected[0], 0, results)
    longest, _ = check_rows(results, agreement.rows(whole, whole.selected[0], 0))
    told = [n for n in whole.nodes.values() if n.kind == "data" and n.options["task"]["name"] not in ("captions", "libero")]
    assert bool(longest) == bool(told)
