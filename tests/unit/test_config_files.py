"""Config and paper files as users write them: what YAML means here, names, and mistakes that name the place which wrote them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from opd_steps.config.load import load_root, results_folder
from opd_steps.config.yaml_file import read
from opd_steps.errors import UserError
from opd_steps.graph.checked import checked, wanted
from opd_steps.graph.nodes import Graph

PAPER = """
paper: {title: T}
vars: {bad: -1}
nodes:
  data: {kind: data}
  init: {kind: model, data: data, config: {hidden_size: 8}}
  x: {kind: opd, student: init, teacher: init, data: data}
  r: {kind: rl, policy: init, data: data}
evaluate: {models: [x], options: {data: data}}
scales:
  tiny: {kinds: {opd: {steps: 3}}, nodes: {x: {prompts: 4}}, evaluate: {k: 2}}
"""


def refusal(call) -> str:
    with pytest.raises(UserError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def graph(folder: Path, text: str, name: str = "toy.yaml", **more) -> Graph:
    (folder / name).write_text(text)
    made = checked(Graph([str(folder / name)], **more))
    wanted(made)
    return made


# YAML

SCALARS = {
    "61e9540": "61e9540",
    "0123456": "0123456",
    "24:00:00": "24:00:00",
    "no": "no",
    "Yes": "Yes",
    "0x1F": "0x1F",
    "0o17": "0o17",
    "1_000": "1_000",
    "2024-01-01": "2024-01-01",
    "1e400": "1e400",
    "9" * 5000: "9" * 5000,
    "'12'": "12",
    "!!str 12": "12",
    "12": 12,
    "-7": -7,
    "1e-3": 0.001,
    ".5": 0.5,
    "-.inf": -float("inf"),
    "true": True,
    "FALSE": False,
    "~": None,
    "": None,
}


@pytest.mark.parametrize("text", SCALARS, ids=lambda text: text[:12])
def test_scalars_are_those_of_yaml_1_2(tmp_path, text):
    (tmp_path / "x.yaml").write_text(f"a: {text}\n")
    found = read(tmp_path / "x.yaml")["a"]
    assert found == SCALARS[text] and type(found) is type(SCALARS[text])


def test_a_byte_order_mark_and_merge_keys_are_taken(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"\xef\xbb\xbfa: &a {b: 1, c: 2}\nd: {<<: *a, c: 3}\n")
    assert read(tmp_path / "x.yaml") == {"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}}


BROKEN = {
    "a key twice": (b"a: 1\nb: {c: 1,\n 'c': 2}", "x.yaml:3: not valid YAML: the key 'c' stands twice"),
    "Latin-1": ("a: 1\nb: \xe9".encode("latin-1"), "x.yaml:2: not UTF-8 text"),
    "UTF-16": ("a: 1".encode("utf-16"), "x.yaml:1: not UTF-8 text"),
    "half a list": (b"a: [1,\nb: 2", "x.yaml:2: not valid YAML: did not find expected ',' or ']'"),
    "an alias to itself": (b"a: &a [1, *a]", "x.yaml:1: not valid YAML: found unconstructable recursive node"),
    "a tag": (b"a: !!python/object:os.system x", "x.yaml:1: not valid YAML: could not determine a constructor"),
    "a wrong tag": (b"a: !!bool yes", "x.yaml:1: not valid YAML: 'yes' is no bool"),
    "two documents": (b"a: 1\n---\nb: 1", "x.yaml:2: not valid YAML"),
    "NUL": (b"a: \0", "x.yaml: not valid YAML: unacceptable character #x0000"),
    "a list as a key": (b"? [a]\n: 1", "x.yaml:1: not valid YAML: a list or mapping as a key"),
    "deep": (b"[" * 100_000, "x.yaml: not valid YAML: nested more than 100 levels deep"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_refused_with_their_line(tmp_path, case):
    data, says = BROKEN[case]
    (tmp_path / "x.yaml").write_bytes(data)
    assert refusal(lambda: read(tmp_path / "x.yaml")).startswith(f"{tmp_path}/{says}")


# who wrote it

PLACES = {  # what is edited: (old, new), and the line behind the file's name
    "kinds": (("steps: 3", "steps: 0"), "scales.tiny.kinds.opd.steps: expected at least 1, found 0"),
    "nodes": (("prompts: 4", "prompts: -1"), "scales.tiny.nodes.x.prompts: expected at least 1, found -1"),
    "evaluate": (("k: 2", "k: -2"), "scales.tiny.evaluate.k: expected at least 0, found -2"),
    "options": (("options: {data: data", "options: {data: data, limit: -1"), "evaluate.options.limit: expected at least 0, found -1"),
    "node": (("student: init", "student: init, optim: {lr: -1}"), "nodes.x.optim.lr: expected at least 0, found -1"),
    "a variable": (("student: init", "student: init, optim: {lr: '${vars.bad}'}"), "nodes.x.optim.lr: expected at least 0, found -1"),
    "no variable": (("steps: 3", "steps: '${vars.no}'"), "scales.tiny.kinds.opd.steps: Interpolation key 'vars.no' not found"),
    "a circle": (("bad: -1", "a: '${vars.b}', b: '${vars.a}'"), "vars.a: Recursive interpolation detected"),
    "half a variable": (("steps: 3", "steps: '${vars.'"), "scales.tiny.kinds.opd.steps: "),
    "unknown key": (("steps: 3", "stepz: 3"), "scales.tiny.kinds.opd.stepz: unknown key. Did you mean: 'steps'?"),
    "no word": (("vars:", "(x: 1\nvars:"), "(x: unknown key. Known keys: paper"),
    "deeper": (("steps: 3", "method: {basline: x}"), "scales.tiny.kinds.opd.method.basline: unknown key"),
    "missing": (("student: init, ", ""), "nodes.x.student: this key is required"),
    "together": (("steps: 3", "method: {estimator: exact}"), "scales.tiny.kinds.opd.method.support: exact sums over a set"),
    "a controller": (
        ("student: init", "student: init, controllers: [{name: linear, sets: sampling.max_new_tokens, first: -4, last: 8}]"),
        "nodes.x.controllers[0].first.sampling.max_new_tokens: expected at least 1, found -4",
    ),
    "another plug": (
        ("student: init", "student: init, controllers: [{name: switch, sets: method.signal, to: {name: jsd, beta: 3}}]"),
        "nodes.x.controllers[0].to.method.signal.beta: expected 0 to 1, found 3",
    ),
    "no options": (("opd: {steps: 3}", "opd: 3"), "scales.tiny.kinds.opd: expected a mapping of options, found 3"),
    "nothing": (("opd: {steps: 3}", "opd: "), "scales.tiny.kinds.opd: expected a mapping of options, found nothing"),
    "a list": (("x: {prompts: 4}", "x: [1]"), "scales.tiny.nodes.x: expected a mapping of options, found [1]"),
    "a number as title": (("title: T", "title: 12"), "paper.title: expected text, found 12: put it in quotes"),
    "an id": (("title: T", "title: T, arxiv: 2605.07860"), "paper.arxiv: expected text, found 2605.0786: put it in quotes"),
    "octal": (("steps: 3", "steps: 0100"), "scales.tiny.kinds.opd.steps: expected a whole number, found '0100'"),
    "a time": (("student: init", "student: init, resources: {runtime: 24:00:00}"), "nodes.x.resources.runtime: expected a whole number"),
    "use: 3": (("vars:", "use: 3\nvars:"), "use: expected a list, found 3"),
    "use of none": (("vars:", "use: nope\nvars:"), "use: no paper file workflow/papers/nope.yaml; known papers:"),
    "paths": (("vars:", "paths: {a: 3}\nvars:"), "paths.a: expected text, found 3: put it in quotes"),
    "a kind": (("kind: rl", "kind: [rl]"), "nodes.r.kind: unknown name"),
    "twice": (("models: [x]", "models: [x, x]"), "evaluate.models: expected unique(models); found models ['x', 'x']"),
    "tasks twice": (("options: {data: data", "options: {data: data, benchmarks: [a, a]"), "evaluate.options.benchmarks: expected unique"),
    "a model elsewhere": (("options: {data: data", "options: {data: data, model: r"), "evaluate.options: expected 'kind' not in options"),
    "nobody's home": (("config: {hidden_size: 8}", "path: ~nobody_here/x"), "nodes.init.path: no such file or folder: ~nobody_here/x"),
    "a name with a line break": (("  r: {", '  "a\\nb": {'), "nodes.a\\nb: a node's name is made of 1 to 100 letters"),
    "a name with a dash": (("  r: {", "  -r: {"), "nodes.-r: a node's name"),
    "a name with a high two": (("  r: {", "  r²: {"), "nodes.r²: a node's name"),
    "a long name": (("  r: {", f"  {'r' * 101}: {{"), f"nodes.{'r' * 101}: a node's name"),
    "a number as a name": (("  r: {", "  12: {"), "nodes: expected text as a key, found 12: put it in quotes"),
}  # fmt: skip
CLAIMS = {
    "nan": "claims[0].right: expected node.metric, found 'nan'",
    ".nan": "claims[0].right: expected a finite number, found nan",
    "1e999": "claims[0].right: expected a finite number, found '1e999'",
    "true": "claims[0].right: expected a finite number, found true",
    "[1]": "claims[0].right: expected a finite number, found [1]",
}


@pytest.mark.parametrize("case", PLACES)
def test_mistakes_are_reported_where_they_are_written(tmp_path, case):
    (old, new), says = PLACES[case]
    assert PAPER.count(old) == 1
    assert refusal(lambda: graph(tmp_path, PAPER.replace(old, new))).startswith(f"{tmp_path}/toy.yaml: {says}")


@pytest.mark.parametrize("key", ["id", "says"])
def test_a_claim_has_a_name_and_says_something(tmp_path, key):
    claim = {"id": "a", "says": "b", "left": "x.train/loss", "right": 1} | {key: ""}
    (tmp_path / "toy.yaml").write_text(PAPER + f"claims: [{json.dumps(claim)}]\n")
    assert (
        refusal(lambda: checked(Graph([str(tmp_path / "toy.yaml")])))
        == f"{tmp_path}/toy.yaml: claims[0].{key}: expected len({key}) >= 1; found {key} ''"
    )


@pytest.mark.parametrize("right", CLAIMS)
def test_claims_against_no_number(tmp_path, right):
    text = PAPER + f"claims: [{{id: a, says: b, left: x.train/loss, right: {right}}}]\n"
    assert refusal(lambda: graph(tmp_path, text)).startswith(f"{tmp_path}/toy.yaml: {CLAIMS[right]}")


def test_the_unedited_paper_is_taken(tmp_path):
    assert graph(tmp_path, PAPER, engines={"engine": "vllm"}).find("toy", "x").options["steps"] == 3
    edited = PAPER.replace("prompts: 4", "method: {prefix: {name: token_mix}}")
    assert refusal(lambda: graph(tmp_path, edited, engines={"engine": "vllm"})).startswith(
        "config.yaml: engine.name: tokens are"
    )


USER = """
paper: {{title: T}}
use: {own}
nodes: {{z: {{kind: rl, policy: init, data: data}}}}
evaluate: {{models: [x, z], options: {{data: data{more}}}}}
"""


@pytest.mark.parametrize(("more", "says"), [(", k: 2", ""), (", k: 3", "k: found 3, but 'x' is evaluated once"), ("", "")])
def test_another_papers_node_is_evaluated_as_its_owner_does_or_refused(tmp_path, more, says):
    (tmp_path / "own.yaml").write_text(PAPER)
    text = USER.format(own=tmp_path / "own.yaml", more=more)
    if says:
        assert f"user.yaml: evaluate.options.{says}" in refusal(lambda: graph(tmp_path, text, "user.yaml"))
    else:
        made = graph(tmp_path, text, "user.yaml")
        assert made.evaluation("user", "x").paper == "own" and made.evaluation("user", "z").paper == "user"


# config.yaml and the command line


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "workflow/papers").mkdir(parents=True)
    (tmp_path / "workflow/papers/toy.yaml").write_text(PAPER)
    return tmp_path


def root(folder: Path, text: str, given: dict) -> dict:
    """As Snakemake calls it: config.yaml as YAML 1.1 reads it, the command line over it."""
    import yaml

    (folder / "config.yaml").write_text(text)
    return load_root((yaml.safe_load(text) or {}) | given)


CONFIGS = {
    "a seed below 0": ("papers: [toy]", {"seeds": ["-1"]}, "--config: seeds[0]: expected at least 0, found -1"),
    "20 digits": ("papers: [toy]", {"seeds": ["12345678901234567890"]}, "--config: seeds[0]: expected a whole number"),
    "equal seeds": ("papers: [toy]\nseeds: [1, 1]", {}, "config.yaml: seeds: expected unique(seeds); found seeds [1, 1]"),
    "one seed": ("papers: [toy]", {"seeds": 5}, "--config: seeds: expected a list, found 5"),
    "no seeds": ("papers: [toy]", {"seeds": []}, "--config: seeds: expected len(seeds) >= 1"),
    "octal seeds": ("papers: [toy]\nseeds: [010]", {}, "config.yaml: seeds[0]: expected a whole number, found '010'"),
    "seeds twice": ("papers: [toy]\nseeds: [1]\nseeds: [2]", {}, "config.yaml:3: not valid YAML: the key 'seeds' stands twice"),
    "infinity": ("papers: [toy]", {"scale": float("inf")}, "--config: scale: expected text, found inf: put it in quotes"),
    "a number": ("papers: [toy]\npaths: {a: 12}", {}, "config.yaml: paths.a: expected text, found 12: put it in quotes"),
    "a path given": ("papers: [toy]\npaths: {a: x}", {"paths": {"a": "x", "b": 3}}, "--config: paths.b: expected text, found 3"),
    "unknown paper": ("papers: [nope]", {}, "config.yaml: papers: no paper file workflow/papers/nope.yaml; known papers: toy"),
    "given paper": ("papers: [toy]", {"papers": ["nope"]}, "--config: papers: no paper file"),
    "unknown key": ("papers: [toy]\nscal: x", {}, "config.yaml: scal: unknown key. Did you mean: 'scale'?"),
    "a list": ("- a", {}, "config.yaml: expected a mapping with the keys papers, seeds, ...; found ['a']"),
    "empty": ("", {}, "config.yaml: expected a mapping with the keys papers, seeds, ...; found nothing"),
    "no store": ("papers: [toy]\ntracking: {uri: ''}", {}, "config.yaml: tracking.uri: expected len(uri) >= 1"),
}  # fmt: skip


@pytest.mark.parametrize("case", CONFIGS)
def test_config_mistakes_say_file_or_command_line(folder, case):
    text, given, says = CONFIGS[case]

    def call():
        if text == "- a":
            (folder / "config.yaml").write_text(text)
            return load_root({})
        return root(folder, text, given)

    assert refusal(call).startswith(says)


def test_config_yaml_is_read_as_it_is_written(folder):
    found = root(folder, "papers: [toy]\npaths: {a: no, b: 61e9540, c: 0123}\nseeds: [1, 2]", {"seeds": ["3"]})
    assert found["paths"] == {"a": "no", "b": "61e9540", "c": "0123"} and found["seeds"] == [3]


@pytest.mark.parametrize(
    "name", ["a'b", "-x", "{x}", "x" * 250, "report", "mlflow.db", ".", "..", "", "a\nb", "a b", "é", "x/a'b.yaml"]
)
def test_names_that_no_paper_can_have(folder, name):
    said = refusal(lambda: root(folder, "papers: [toy]", {"papers": [name]}))
    assert said.startswith("--config: papers: ") and "names no paper" in said and len(said) < 300


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "x",
        ["a"],
        {"foo": "x"},
        {"results": ""},
        {"results": None},
        {"results": 3},
        {"logs": "<results>"},
        {"results": "{x}"},
        {"results": "a\nb"},
    ],
)
def test_path_variables_that_no_rule_has(given):
    assert refusal(lambda: results_folder({"pathvars": given})).startswith("--config: pathvars")


def test_what_is_no_number_in_the_file_is_blamed_on_the_file(folder):
    said = refusal(lambda: root(folder, "papers: [toy]\ntracking: .nan", {}))
    assert said == "config.yaml: tracking: expected keys of Tracking, found nan"


def test_path_variables_of_the_file_are_read_before_snakemake_does(folder, capfd, monkeypatch):
    """Which ends with a traceback for a mapping that is none."""
    from opd_steps.graph import snakemake as flow

    monkeypatch.setattr(flow.os, "_exit", lambda status: (_ for _ in ()).throw(SystemExit(status)))
    (folder / "config.yaml").write_text("papers: [toy]\npathvars: x\n")
    with pytest.raises(SystemExit):
        flow.look_at_config()
    assert capfd.readouterr().err.startswith("distillery: error: config.yaml: pathvars: expected ")


def test_something_else_where_results_go(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "circle").symlink_to("circle")
    for folder, there in (("file", "file"), ("file/x/y", "file"), ("circle", "circle")):
        said = refusal(lambda folder=folder: results_folder({"pathvars": {"results": folder}}))
        assert said == f"{there}: results go into this folder, and something else stands there"
    said = refusal(lambda: results_folder({"pathvars": {"logs": "file/x"}}))
    assert said == "file: logs go into this folder, and something else stands there"


def test_path_variables():
    assert results_folder({}) == Path("results")
    assert results_folder({"pathvars": {"results": "r", "logs": "l"}}) == Path("r")
