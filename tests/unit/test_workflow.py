"""What Snakemake asks of the graph for every job stays cheap: counts, not times."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from opd_steps import graph, workflow
from opd_steps.artifacts import MANIFEST
from opd_steps.fingerprint import file_sha256

TOY = """
paper: {{title: Toy}}
nodes:
  data: {{kind: data, seed: 0}}
  init: {{kind: model, data: data, config: {{hidden_size: 8}}}}
  teacher: {{kind: rl, policy: init, data: data}}
{variants}
evaluate: {{models: [v0, v1], options: {{data: data}}}}
"""
METHODS = ("{}", "{baseline: neg_kl}")


@pytest.fixture
def flow(tmp_path, monkeypatch):
    """opd_steps.workflow with a paper of forty variants that are made of two methods."""
    variants = [
        f"  v{i}: {{kind: opd, student: init, teacher: init, data: data, optim: {{lr: {i + 1}}}, method: {METHODS[i % 2]}}}"
        for i in range(40)
    ]
    path = tmp_path / "toy.yaml"
    path.write_text(TOY.format(variants="\n".join(variants)))
    made = graph.Graph([str(path)])
    for name, value in {"_graph": made, "_wanted": made.wanted(), "_root": {"seeds": [0, 1]}}.items():
        monkeypatch.setattr(workflow, name, value, raising=False)
    return workflow


def wildcards(node: str, seed: int = 0) -> SimpleNamespace:
    return SimpleNamespace(paper="toy", node=node, seed=str(seed))


def test_sources_are_hashed_once_for_all_variants_that_run_the_same(flow, monkeypatch):
    calls = []
    monkeypatch.setattr(graph, "code_hashes", lambda *files: calls.append(files) or {"file": str(len(calls))})
    graph._code.cache_clear()
    texts = {flow.job_code("opd", wildcards(f"v{i}", seed)) for i in range(40) for seed in (0, 1)}
    graph._code.cache_clear()  # what was made up here is of no use to others
    assert len(calls) == len(texts) == 2


def test_the_code_of_a_job_is_its_nodes(flow):
    """v0 and v1 differ by one plug: in its file, and in nothing else."""
    plain, vopd, again = (json.loads(flow.job_code("opd", wildcards(name))) for name in ("v0", "v1", "v2"))
    baselines = "opd_steps/objectives/baselines"
    assert plain.keys() - vopd.keys() == {f"{baselines}/none.py"} and f"{baselines}/neg_kl.py" in vopd.keys() - plain.keys()
    assert {file: vopd[file] for file in plain.keys() & vopd.keys()} == {
        file: plain[file] for file in plain.keys() & vopd.keys()
    }
    assert again == plain and "opd_steps/steps/opd.py" in plain and "opd_steps/steps/rl.py" not in plain
    assert "opd_steps/steps/rl.py" in json.loads(flow.job_code("rl", wildcards("teacher")))


def test_what_all_nodes_ask_alike_is_a_number(flow):
    assert flow.ask("opd", "mem_mb") == 4000
    flow.node_of("opd", wildcards("v3")).options["resources"]["mem_mb"] = 9000
    assert [flow.ask("opd", "mem_mb")(wildcards(name)) for name in ("v2", "v3")] == [4000, 9000]


def test_a_papers_manifests_are_gathered_in_one_file(flow, tmp_path):
    wanted = flow.manifests_of(SimpleNamespace(paper="toy"))
    assert sorted(wanted) == sorted(flow.manifests())
    assert flow.gathered() == ["<results>/report/manifests/toy.json"]
    manifest = tmp_path / "toy/opd/v0/seed0" / MANIFEST
    manifest.parent.mkdir(parents=True)
    for text in ("{}", "[]"):
        manifest.write_text(text)
        out = tmp_path / "report/toy.json"
        command = ["-m", "opd_steps.steps.gather", "--results", str(tmp_path), "--paper", "toy", "--out", str(out)]
        subprocess.run([sys.executable, *command], check=True, cwd=Path(__file__).parents[2])
        assert json.loads(out.read_text()) == {f"toy/opd/v0/seed0/{MANIFEST}": file_sha256(manifest)}
