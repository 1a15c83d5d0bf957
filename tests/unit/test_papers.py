"""Every paper file, at every scale, and the README's own example: the graph builds and its claims resolve."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from opd_steps.config.load import load_root
from opd_steps.graph import outline
from opd_steps.graph.checked import checked, wanted
from opd_steps.graph.nodes import Graph

ROOT = Path(__file__).parents[2]
CASES = [
    (path.stem, scale)
    for path in sorted((ROOT / "workflow/papers").glob("*.yaml"))
    for scale in OmegaConf.to_container(OmegaConf.load(path))["scales"]
]


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def graph(**changes) -> Graph:
    return checked(Graph.of(load_root(OmegaConf.to_container(OmegaConf.load("config.yaml")) | changes)))


@pytest.fixture(scope="module")
def plans() -> dict:
    """The plan of all papers, by scale."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        scales = sorted({scale for _, scale in CASES})
        named = {scale: [paper for paper, other in CASES if other == scale] for scale in scales}
        return {scale: outline.make(graph(papers=named[scale], scale=scale), {"seeds": [0, 1]}) for scale in scales}


@pytest.mark.parametrize(("paper", "scale"), CASES)
def test_papers_build(plans, paper, scale):
    found = plans[scale]["papers"][paper]
    assert len(found["nodes"]) > 3
    assert len(found["claims"]) >= 3


def test_each_inequality_that_a_claim_names_is_one_at_some_scale(plans):
    named, found = set(), set()
    for scale, plan in plans.items():
        entries = graph(papers=[paper for paper, other in CASES if other == scale], scale=scale).papers
        for paper, entry in plan["papers"].items():
            named |= {(paper, claim["id"], what) for claim in entries[paper]["claims"] for what in claim["unequal"]}
            found |= {(paper, claim["id"], side["what"]) for claim in entry["claims"] for side in claim["unequal"]}
    assert named == found


def test_the_readmes_example_builds_and_shares_the_quickstarts_nodes(tmp_path):
    block = re.search(r"```yaml\n(# workflow/papers/mine.yaml.*?)```", (ROOT / "README.md").read_text(), re.S).group(1)
    (tmp_path / "mine.yaml").write_text(block)
    built = graph(papers=[str(tmp_path / "mine.yaml")])
    keys = {node.key for node in wanted(built)}
    more = re.search(r"```yaml\n(preconditions:.*?)```", (ROOT / "README.md").read_text(), re.S).group(1)
    (tmp_path / "mine.yaml").write_text(block[: block.index("claims:")] + more)
    other = graph(papers=[str(tmp_path / "mine.yaml")])
    assert ("quickstart", "evaluate", "opd_exact") in {node.key for node in wanted(other)}
    assert {("mine", "opd", "mine"), ("quickstart", "rl", "teacher"), ("quickstart", "evaluate", "opd_sampled")} <= keys
    assert ("quickstart", "opd", "vopd") not in keys  # nobody asked for it
    sweep = re.search(r"```yaml\n(  mine: .*?)evaluate: \[mine\].*?```", (ROOT / "README.md").read_text(), re.S).group(1)
    plain = re.search(r"  mine: .*?(?=evaluate:)", block, re.S).group(0)
    (tmp_path / "mine.yaml").write_text(block[: block.index("claims:")].replace(plain, sweep))
    swept = graph(papers=[str(tmp_path / "mine.yaml")])
    assert sum(kind == "evaluate" and name.startswith("mine__") for _, kind, name in swept.nodes) == 8
    assert swept.find("mine", "mine__lr_0_0005_n_4_warm").options["controllers"][0]["name"] == "linear"


def jobs(**changes) -> dict[str, str]:
    """What each wanted node's job depends on, by its folder; no two nodes in one folder."""
    nodes = wanted(graph(**changes))
    found = {node.path(0): node.job_config(0) + node.code_json for node in nodes}
    assert len(found) == len(nodes)
    return found


def test_all_papers_together_share_one_graph():
    """It holds what each asks for alone, each job once and the same, whatever runs beside it."""
    names = sorted({paper for paper, _ in CASES})
    alone = [jobs(papers=[name]) for name in names]
    together = jobs(papers=names)
    assert together == {path: job for found in alone for path, job in found.items()} == jobs(papers=names[::-1])
    assert len(together) < sum(map(len, alone))  # they do share
