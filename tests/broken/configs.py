"""Broken config.yaml, paper files, command lines and names; and what a dry run makes of them, without Snakemake's own two seconds."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import yaml
from hypothesis import strategies as st

from opd_steps.graph.checked import checked
from opd_steps.graph.nodes import Graph
from tests.broken.outcome import Outcome, outcome
from tests.broken.values import ODD, ODD_TEXTS, renamed, replaced, spoiled

ROOT = Path(__file__).parents[2]
PAPER = yaml.safe_load((ROOT / "tests/pipeline/smoke.yaml").read_text())
CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text()) | {"papers": ["smoke"]}
RICH = {
    "kind": "opd",
    "student": "student_sft",
    "teacher": "teacher",
    "reference": "base",
    "data": "data",
    "dtype": "float32",
    "optim": {"lr": 0.001, "schedule": "cosine", "warmup": 0.1, "betas": [0.9, 0.95], "weight_decay": 0.0, "clip": 1.0},
    "resources": {"gpu": 0, "cpus": 1, "mem_mb": 4000, "runtime": 60},
    "sampling": {"n": 2, "temperature": 1.0, "top_p": 1.0, "max_new_tokens": 8},
    "buffer": {"batches": 2, "passes": 1},
    "method": {
        "target": {"name": "extrapolate", "lam": 1.25},
        "baseline": {"name": "neg_kl"},
        "transform": [{"name": "floor", "lam": 0.3}],
        "weight": [{"name": "overlap_decay", "k": 4}, "freshness"],
        "prefix": {"name": "student"},
        "add": [{"rows": "dataset", "estimator": "mle", "coef": 0.1}],
    },
    "controllers": [{"name": "linear", "sets": "sampling.max_new_tokens", "first": 2, "last": 8}],
    "hooks": [{"name": "effopd", "prompts": 4}],
}
PAPER["nodes"]["rich"] = RICH
SMOKE = "workflow/papers/smoke.yaml"
PHASES = ("", "teachers", "students", "benchmarks")


@dataclass(frozen=True)
class Case:
    """`files`: content by name, over those of a good folder; `given`: entries of --config; `places`: one must be named."""

    what: str
    places: tuple[str, ...]
    files: dict[str, bytes] = field(default_factory=dict)
    given: tuple[str, ...] = ()
    must_fail: bool = False
    links: dict[str, str] = field(default_factory=dict)


def dump(tree: object) -> bytes:
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True).encode()


def lay(folder: Path, case: Case) -> None:
    """A user's folder with the case's files."""
    base = {"config.yaml": dump(CONFIG), SMOKE: dump(PAPER)}
    for name, content in (base | case.files).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for name, target in case.links.items():
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)


@cache
def warm() -> None:
    """What every fork would import and read again."""
    import snakemake.cli  # noqa: F401

    import opd_steps.graph.needrun
    import opd_steps.graph.snakemake  # noqa: F401

    path = str(ROOT / "tests/pipeline/smoke.yaml")
    for node in checked(Graph([path])).nodes.values():
        assert node.code_json


def dry_run(folder: Path, given: tuple[str, ...]) -> Outcome:
    """As `snakemake -n all --config <given>` reads it: its own way to the config, then all that the rules ask of us."""

    warm()

    def work() -> None:
        from snakemake.cli import parse_config
        from snakemake.common.configfile import load_configfile
        from snakemake.exceptions import WorkflowError
        from snakemake.utils import update_config

        from opd_steps.graph import outline
        from opd_steps.graph import snakemake as flow

        flow.look_at_config()
        config = load_configfile("config.yaml")  # raises what no reader of ours may let through
        try:
            update_config(config, parse_config(list(given)))
        except (WorkflowError, ValueError, AssertionError) as error:  # Snakemake's own words
            print(f"distillery: error: --config: {type(error).__name__}", file=sys.stderr)
            sys.exit(2)
        flow.start(SimpleNamespace(is_main_process=True), dict(config))
        flow.papers(), flow.root_config(), flow.gathered(), outline.make(flow._graph, flow._root)
        for node, seed in flow._jobs(flow._wanted):
            asked = SimpleNamespace(paper=node.paper, node=node.name, seed=str(seed))
            json.loads(flow.job_config(node.kind, asked)), json.loads(flow.job_code(node.kind, asked))
            flow.parents(node.kind, asked), flow.processes(node.kind)
            flow.preflight_models(asked), flow.preflight_code(asked), flow.manifests_of(asked)
        for phase in PHASES:
            flow.manifests(phase)

    return outcome(folder, work)


def keys(path: tuple, file: str) -> tuple[str, ...]:
    """What may be named for a value that was spoiled: its file or, where the mistake shows elsewhere, its key."""
    return (file, *(str(key) for key in path[-1:] if isinstance(key, str) and len(key) > 3))


papers = st.one_of(
    replaced(PAPER).map(lambda x: Case(f"paper {x[1]}", keys(x[1], "smoke.yaml"), {SMOKE: dump(x[0])})),
    renamed(RICH).map(
        lambda x: Case(
            f"unknown key for {x[1]}",
            ("smoke.yaml: nodes.rich",),
            {SMOKE: dump(PAPER | {"nodes": PAPER["nodes"] | {"rich": x[0]}})},
            must_fail=True,
        )
    ),
    spoiled(dump(PAPER).decode()).map(lambda data: Case("paper text", ("smoke.yaml",), {SMOKE: data})),
)
configs = st.one_of(
    replaced(CONFIG).map(lambda x: Case(f"config {x[1]}", ("config.yaml", "smoke.yaml"), {"config.yaml": dump(x[0])})),
    renamed(CONFIG)
    .filter(lambda x: x[1][0] != "paths")
    .map(lambda x: Case(f"unknown key for {x[1]}", ("config.yaml",), {"config.yaml": dump(x[0])}, must_fail=True)),
    spoiled((ROOT / "config.yaml").read_text().replace("[quickstart]", "[smoke]")).map(
        lambda data: Case("config text", ("config.yaml", "smoke.yaml"), {"config.yaml": data})
    ),
)
flow_text = st.one_of(
    ODD.map(lambda value: yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n").strip()),
    st.sampled_from(ODD_TEXTS),
)
entries = st.builds(
    lambda key, value: f"{key}={value}",
    st.sampled_from([*CONFIG, "pathvars", "seeds", "papers", "scale", "unknown", "tracking", "x-y"]),
    st.one_of(
        flow_text,
        flow_text.map(lambda x: f"[{x}]"),
        flow_text.map(lambda x: f"{{results: {x}}}"),
        flow_text.map(lambda x: f"{{uri: {x}}}"),
    ),
)
lines = entries.map(lambda entry: Case(f"--config {entry}", ("config.yaml", entry.split("=")[0], "smoke.yaml"), given=(entry,)))
odd_names = st.one_of(
    st.sampled_from([*ODD_TEXTS, "report", "all", "a'b", "-x", "{x}", "con", "seed0", "mlflow", "p" * 250]), st.text(max_size=6)
)
node_names = odd_names.map(
    lambda name: Case(
        f"node named {name!r}",
        ("smoke.yaml",),
        {SMOKE: dump(PAPER | {"nodes": PAPER["nodes"] | {name: RICH}})},
    )
)
file_names = odd_names.filter(
    lambda name: name and "/" not in name and "\0" not in name and len(name.encode(errors="replace")) < 250
)


def named_paper(name: str) -> Case:
    name = name.encode(errors="replace").decode()
    return Case(
        f"paper named {name!r}",
        ("config.yaml", name.strip() or ".yaml"),
        {"config.yaml": dump(CONFIG | {"papers": [name]}), f"workflow/papers/{name}.yaml": dump(PAPER)},
    )


seeds = st.one_of(
    st.lists(
        st.one_of(st.integers(-(10**20), 10**20), st.sampled_from([0, -1, 1.5, True, None, "x", "0", "1e3", 10**19])),
        max_size=3,
    ),
    ODD,
).map(
    lambda value: Case(
        f"seeds {str(value)[:60]}",
        ("config.yaml: seeds", "seeds"),
        {"config.yaml": yaml.safe_dump(CONFIG | {"seeds": value}).encode()},
    )
)
references = st.tuples(
    st.sampled_from([("use",), ("claims",), ("preconditions",), ("evaluate",), ("scales",), ("vars",)]), ODD
).map(lambda x: Case(f"{x[0][0]}: {x[1]!r}", ("smoke.yaml",), {SMOKE: dump(PAPER | {x[0][0]: x[1]})}))
twice = lambda text, line: text.replace(line, line + line, 1).encode()
PLACES = st.sampled_from(
    [
        Case("results is a file", ("results",), {"results": b"mine"}, must_fail=True),
        Case("results is a link to itself", ("results",), links={"results": "results"}, must_fail=True),
        Case("a paper that is a link to itself", ("smoke.yaml", "config.yaml"), links={SMOKE: "smoke.yaml"}, must_fail=True),
        Case("a paper that is nowhere", ("smoke.yaml", "config.yaml"), links={SMOKE: "nowhere"}, must_fail=True),
        Case("a paper that is a folder", ("x.yaml",), {"workflow/papers/x.yaml/y": b""}, ("papers=[x]",), must_fail=True),
        Case("a paper in UTF-16", ("smoke.yaml",), {SMOKE: dump(PAPER).decode().encode("utf-16")}),
        Case("a paper twice", ("papers",), given=("papers=[smoke,smoke]",), must_fail=True),
        Case("a key twice in config.yaml", ("config.yaml",), {"config.yaml": dump(CONFIG) + b"seeds: [1]\n"}, must_fail=True),
        Case(
            "a node twice",
            ("smoke.yaml",),
            {SMOKE: twice(dump(PAPER).decode(), "nodes:\n  data:\n    kind: data\n")},
            must_fail=True,
        ),
        Case("a paper that uses itself", ("smoke.yaml",), {SMOKE: dump(PAPER | {"use": "smoke"})}, must_fail=True),
        Case(
            "a circle of values",
            ("smoke.yaml",),
            {SMOKE: dump(PAPER | {"vars": {"a": "${vars.b}", "b": "${vars.a}"}})},
            must_fail=True,
        ),
        Case("an empty paper", ("smoke.yaml",), {SMOKE: b""}, must_fail=True),
        Case("an empty config.yaml", ("config.yaml", "no paper file"), {"config.yaml": b""}),
        Case("many seeds", ("seeds",), given=(f"seeds=[{','.join(map(str, range(40)))}]",)),
        Case(
            "a million laughs",
            ("smoke.yaml",),
            {SMOKE: b"a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b]\n"},
            must_fail=True,
        ),
        Case("a text that holds itself", ("smoke.yaml",), {SMOKE: b"paper: {title: x}\nnodes: &n {a: *n}\n"}, must_fail=True),
    ]
)
everything = st.one_of(papers, configs, lines, node_names, file_names.map(named_paper), seeds, references, PLACES)


def examine(case: Case) -> str:
    """What is wrong with how the case is met, else ""."""
    with tempfile.TemporaryDirectory() as folder:
        lay(Path(folder), case)
        return dry_run(Path(folder), case.given).fault(case.places, case.must_fail)
