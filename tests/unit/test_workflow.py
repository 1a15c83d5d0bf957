"""What Snakemake asks of the graph for every job stays cheap: counts, not times."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from opd_steps.graph import node, nodes, outline
from opd_steps.graph import snakemake as workflow
from opd_steps.graph.checked import checked, wanted
from opd_steps.steps._main import _now
from opd_steps.store.fingerprint import PACKAGE, code_hashes
from opd_steps.store.views import why

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
    """opd_steps.graph.snakemake with a paper of forty variants that are made of two methods."""
    variants = [
        f"  v{i}: {{kind: opd, student: init, teacher: init, data: data, optim: {{lr: {i + 1}}}, method: {METHODS[i % 2]}}}"
        for i in range(40)
    ]
    path = tmp_path / "toy.yaml"
    path.write_text(TOY.format(variants="\n".join(variants)))
    made = checked(nodes.Graph([str(path)]))
    for name, value in {"_graph": made, "_wanted": wanted(made), "_root": {"seeds": [0, 1]}}.items():
        monkeypatch.setattr(workflow, name, value, raising=False)
    return workflow


def wildcards(node: str, seed: int = 0) -> SimpleNamespace:
    return SimpleNamespace(paper="toy", node=node, seed=str(seed))


def test_sources_are_hashed_once_for_all_variants_that_run_the_same(flow, monkeypatch):
    calls = []
    monkeypatch.setattr(node, "code_hashes", lambda *files: calls.append(files) or {"file": str(len(calls))})
    node._code.cache_clear()
    texts = {flow.job_code("opd", wildcards(f"v{i}", seed)) for i in range(40) for seed in (0, 1)}
    node._code.cache_clear()  # what was made up here is of no use to others
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
    paths = [Path(file.replace("<results>", str(tmp_path))) for file in wanted]
    plan_file, out, views = tmp_path / "plan.json", tmp_path / "report/toy.json", []
    plan_file.write_text(json.dumps(outline.make(flow._graph, flow._root)))
    for text in ("{}", "[]"):
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        command = ["-m", "opd_steps.steps.gather", "--plan", str(plan_file), "--results", str(tmp_path), "--paper", "toy"]
        subprocess.run([sys.executable, *command, "--out", str(out)], check=True, cwd=Path(__file__).parents[2])
        views.append(json.loads(out.read_text()))
        assert why(out, "", paths) == ""
    assert [len(view["results"]) for view in views] == [len(wanted)] * 2
    assert views[0]["made_of"] != views[1]["made_of"]
    paths[0].write_text("{}")
    assert "made of something else" in why(out, "", paths)


def test_a_step_records_the_source_that_it_runs():
    """Not the one that was there when the run was planned."""
    now = code_hashes(PACKAGE / "seeds.py")
    assert _now({file: "planned" for file in now} | {"opd_steps/gone.py": "planned"}) == {**now, "opd_steps/gone.py": ""}
