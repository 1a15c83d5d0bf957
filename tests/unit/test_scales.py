"""What a paper takes from the papers that it uses: their budgets as defaults, and their nodes with other options as copies of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from opd_steps.errors import UserError
from opd_steps.graph.checked import checked, wanted
from opd_steps.graph.nodes import Graph

SHARED = """
paper: {title: T}
nodes:
  data: {kind: data}
  init: {kind: model, data: data}
  teacher: {kind: rl, policy: init, data: data}
  start: {kind: sft, student: init, data: data}
  plain: {kind: opd, student: start, teacher: teacher, data: data, prompts: 8}
  after: {kind: rl, policy: plain, data: data}
evaluate: {models: [plain, start], options: {data: data, teacher: teacher, splits: [test, ood]}}
scales:
  tiny:
    kinds: {model: {config: {hidden_size: 8}}, opd: {steps: 60, optim: {lr: 1.0e-3, schedule: linear}}, sft: {steps: 9}}
    nodes: {plain: {steps: 70, sampling: {n: 2}}}
    evaluate: {k: 4, max_new_tokens: 64}
"""
NODES = "nodes:\n  mine: {kind: opd, student: start, teacher: teacher, data: data}\nevaluate: [mine]\n"


def graph(folder: Path, scales: str, use: str = "{0}/shared.yaml", more: dict | None = None, nodes: str = NODES) -> Graph:
    for name, text in {"shared": SHARED, **(more or {})}.items():
        (folder / f"{name}.yaml").write_text(text.replace("{0}", str(folder)))
    text = f"paper: {{title: U}}\nuse: [{use.format(folder)}]\n{nodes}{scales}"
    (folder / "user.yaml").write_text(text)
    made = checked(Graph([str(folder / "user.yaml")]))
    wanted(made)
    return made


def options(made: Graph, name: str, kind: str = "opd") -> dict:
    return made.nodes["user", kind, name].options


def test_budgets_of_used_papers_are_defaults_below_its_own(tmp_path):
    made = graph(tmp_path, "scales: {tiny: {kinds: {opd: {prompts: 3, optim: {lr: 2.0e-3}}}, evaluate: {k: 2}}}")
    mine, how = options(made, "mine"), options(made, "mine", "evaluate")
    assert (mine["steps"], mine["prompts"], mine["optim"]["lr"], mine["optim"]["schedule"]) == (60, 3, 2e-3, "linear")
    assert mine["sampling"]["n"] == 1  # options by node are that node's alone
    assert (how["k"], how["max_new_tokens"], how["splits"], how["teacher"]) == (2, 64, ["test", "ood"], "teacher")


def test_a_paper_without_scales_takes_all_from_the_one_that_it_uses(tmp_path):
    made = graph(tmp_path, "")
    assert options(made, "mine")["steps"] == 60 and options(made, "mine", "evaluate")["k"] == 4


def test_its_own_evaluate_options_win_over_a_used_papers_scale(tmp_path):
    nodes = NODES.replace("[mine]", "{models: [mine], options: {k: 3, teacher: null}}")
    how = options(graph(tmp_path, "", nodes=nodes), "mine", "evaluate")
    assert (how["k"], how["teacher"], how["max_new_tokens"]) == (3, None, 64)


SECOND = "paper: {title: S}\nuse: ['{0}/shared.yaml']\nscales: {tiny: {kinds: {opd: {steps: 5}}, evaluate: {k: 6}}}\n"


@pytest.mark.parametrize("use", ["{0}/shared.yaml, {0}/second.yaml", "{0}/second.yaml, {0}/shared.yaml", "{0}/second.yaml"])
def test_of_several_used_papers_the_later_wins_and_one_that_uses_another_wins_over_it(tmp_path, use):
    made = graph(tmp_path, "", use, {"second": SECOND})
    assert options(made, "mine")["steps"] == 5 and options(made, "mine", "evaluate")["k"] == 6
    third = SECOND.replace("steps: 5", "steps: 7")
    made = graph(tmp_path, "", "{0}/second.yaml, {0}/third.yaml", {"second": SECOND, "third": third})
    assert options(made, "mine")["steps"] == 7


def test_a_used_node_with_other_options_is_a_copy_of_its_own(tmp_path):
    """What its own paper writes, then this paper's budget of the kind, then the options by name; the original stays as it was."""
    scales = "scales: {tiny: {kinds: {opd: {steps: 100}}, nodes: {plain: {minibatches: 2}}}}"
    made = graph(tmp_path, scales)
    copy, shared = made.find("user", "plain"), made.nodes["shared", "opd", "plain"]
    assert copy.paper == "user" and copy.options["minibatches"] == 2 and copy.options["steps"] == 100
    assert (copy.options["prompts"], copy.options["sampling"]["n"]) == (8, 2)
    assert (shared.options["minibatches"], shared.options["steps"]) == (1, 70)
    assert made.find("user", "after").parents["policy"] is shared  # nodes that are not copied read what they read
    assert copy.parents["student"] is made.nodes["shared", "sft", "start"]


def test_a_copy_that_a_claim_names_is_evaluated_where_the_original_is_as_this_paper_evaluates(tmp_path):
    claims = (
        "\nclaims: [{id: c, says: s, left: mine.test/avg_at_k, right: plain.test/avg_at_k, unequal: {steps: x, samples: x}}]"
    )
    made = graph(tmp_path, "scales: {tiny: {nodes: {start: {}, plain: {}, teacher: {}}, evaluate: {k: 2}}}" + claims)
    found = made.evaluation("user", "plain")
    assert found.paper == "user" and found.options["k"] == 2 and found.parents["model"] is made.find("user", "plain")
    assert ("user", "evaluate", "start") not in made.nodes  # no claim names it
    assert ("user", "evaluate", "teacher") not in made.nodes
    assert made.nodes["shared", "evaluate", "plain"].options["k"] == 4


def test_copies_and_own_nodes_read_copies(tmp_path):
    made = graph(tmp_path, "scales: {tiny: {nodes: {start: {steps: 3}, plain: {}}}}")
    start = made.nodes["user", "sft", "start"]
    assert made.find("user", "mine").parents["student"] is start and made.find("user", "plain").parents["student"] is start


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ("plian: {steps: 3}", "scales.tiny.nodes.plian: unknown name 'plian'. Did you mean: 'plain'?"),
        ("plain: {steps: 0}", "scales.tiny.nodes.plain.steps: expected at least 1, found 0"),
        ("plain: {teacher: nobody}", "scales.tiny.nodes.plain.teacher: unknown name 'nobody'"),
        ("plain: 3", "scales.tiny.nodes.plain: expected a mapping of options, found 3"),
        ("start: {student: mine}", "nodes.mine: nodes read each other in a circle: mine -> start -> mine"),
        (
            "data: {seed: 3}, plain: {seed: 3}",
            "nodes.plain.seed: this node is pinned to one seed but reads 'start', which is not",
        ),
    ],
)
def test_a_mistake_in_a_copy_names_its_place(tmp_path, nodes, says):
    with pytest.raises(UserError) as caught:
        graph(tmp_path, f"scales: {{tiny: {{nodes: {{{nodes}}}}}}}")
    assert "\n" not in str(caught.value) and says in str(caught.value) and "user.yaml" in str(caught.value)


def test_a_mistake_in_an_inherited_budget_names_the_paper_that_wrote_it(tmp_path):
    with pytest.raises(UserError, match=r"second\.yaml: scales\.tiny\.kinds\.opd\.steps: expected at least 1"):
        graph(tmp_path, "", "{0}/second.yaml", {"second": SECOND.replace("steps: 5", "steps: 0")})


AT_PAPER = """
paper: {notes: as the source}
nodes:
  data: {kind: data}
  teacher: {kind: model, config: {hidden_size: 16}, data: data}
  student: {kind: model, config: {hidden_size: 8}, data: data}
  opd: {kind: opd, student: student, teacher: teacher, data: data}
evaluate: {models: [opd], options: {data: data}}
scales: {paper: {kinds: {opd: {steps: 9}}}}
"""
NAMED = """
paper: {title: U, arxiv: '2601.00001', axes: {teacher: self}}
nodes: {data: {kind: data}}
scales: {tiny: {}, paper: {file: paper/user.yaml}}
"""


def at_paper(folder: Path, own: str = NAMED, there: str = AT_PAPER) -> Graph:
    (folder / "paper").mkdir(exist_ok=True)
    (folder / "user.yaml").write_text(own)
    (folder / "paper/user.yaml").write_text(there)
    return checked(Graph([str(folder / "user.yaml")], "paper"))


def test_a_file_of_its_own_stands_for_a_paper_at_a_scale(tmp_path):
    made = at_paper(tmp_path)
    assert made.find("user", "opd").options["steps"] == 9 and made.nodes["user", "evaluate", "opd"]
    about = made.papers["user"]["paper"]
    assert (about["title"], about["arxiv"], about["axes"]["teacher"], about["notes"]) == (
        "U",
        "2601.00001",
        "self",
        "as the source",
    )
    tiny = Graph([str(tmp_path / "user.yaml")])
    assert [node.name for node in tiny.nodes.values()] == ["data"]


@pytest.mark.parametrize(
    ("own", "there", "says"),
    [
        (
            NAMED.replace("paper/user", "paper/none"),
            AT_PAPER,
            r"user\.yaml: scales\.paper\.file: no such file: .*paper/none\.yaml",
        ),
        (
            NAMED.replace("user.yaml}", "user.yaml, nodes: {data: {seed: 1}}}"),
            AT_PAPER,
            r"scales\.paper\.file: expected file == ''",
        ),
        (
            NAMED,
            AT_PAPER.replace("{kinds: {opd: {steps: 9}}}", "{file: user.yaml}"),
            r"paper/user\.yaml: scales\.paper\.file: .* cannot name",
        ),
        (
            NAMED,
            AT_PAPER.replace("steps: 9", "steps: 0"),
            r"paper/user\.yaml: scales\.paper\.kinds\.opd\.steps: expected at least 1",
        ),
    ],
)
def test_a_mistake_in_such_a_file_names_its_place(tmp_path, own, there, says):
    with pytest.raises(UserError, match=says) as caught:
        at_paper(tmp_path, own, there)
    assert "\n" not in str(caught.value)


def test_a_paper_without_the_scale_names_those_that_it_has_and_not_those_of_papers_that_it_uses(tmp_path):
    (tmp_path / "shared.yaml").write_text(SHARED)
    used = f"paper: {{title: U}}\nuse: ['{tmp_path}/shared.yaml']\nscales: {{tiny: {{}}, small: {{}}}}"
    (tmp_path / "user.yaml").write_text(used)
    with pytest.raises(UserError) as caught:
        Graph([str(tmp_path / "user.yaml")], "paper")
    assert str(caught.value).endswith("user.yaml: scales: no scale 'paper'; this paper has: tiny, small")
