"""Every numeric option of every kind and plug says its range beside its default, and what lies outside is refused with its key."""

from __future__ import annotations

import dataclasses
import types
import typing

import pytest

from opd_steps.config import plug_schema
from opd_steps.config.merge import merge
from opd_steps.config.ranges import inside
from opd_steps.errors import UserError
from opd_steps.graph.kinds import KINDS
from opd_steps.graph.method import Term
from tests.options_table import PAGE, classes, groups, page

PLUGS = [(group, name) for group in groups() for name in plug_schema.names(group)]
CLASSES = classes() | {f"{group}/{name}": plug_schema.schema(group, name) for group, name in PLUGS}


def numbers(cls: type) -> dict[str, str | None]:
    """The range of every option that holds a number or numbers; None where it says none."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {name: words for name, hint in hints.items() for found, words in [_range(hint)] if found}


def _range(hint: object, words: str | None = None) -> tuple[bool, str | None]:
    if hint in (int, float):
        return True, words
    if typing.get_origin(hint) is typing.Annotated:
        return _range(hint.__origin__, hint.__metadata__[0])
    if typing.get_origin(hint) in (list, typing.Union, types.UnionType):
        return max((_range(a, words) for a in typing.get_args(hint)), key=lambda found: found[0])
    return False, None


def test_all_are_found():
    assert len(PLUGS) > 80 and {"RlNode", "Optim", "TeacherEngine", "Root", "objectives/signals/jsd"} <= CLASSES.keys()


@pytest.mark.parametrize("name", CLASSES)
def test_every_number_says_its_range(name):
    found = numbers(CLASSES[name])
    assert [option for option, words in found.items() if words is None] == []
    for words in found.values():
        inside(1, words)  # raises where the words are no range
    for rule in getattr(CLASSES[name], "CHECKS", ()):
        compile(rule, name, "eval")


NO_NUMBERS = [float("nan"), float("inf"), -float("inf"), "1e400", "nan", True, "many", [], "0100", "1_000", "24:00:00"]


@pytest.mark.parametrize("name", [n for n in CLASSES if numbers(CLASSES[n])])
def test_what_is_no_number_or_outside_is_refused_with_its_key(name):
    cls = CLASSES[name]
    hints = typing.get_type_hints(cls)
    for option, words in numbers(cls).items():
        whole, many = float not in (hints[option], *typing.get_args(hints[option])), "list" in str(hints[option])
        outside = [v for v in (-3, -0.5, 0, 1, 7, 1e9, -1e9) if not inside(v, words)]
        for value in [*NO_NUMBERS, *outside, *([1.5, 2**63] if whole else [])]:
            with pytest.raises(UserError) as error:
                merge(cls, required(cls) | {option: [value] if many else value}, "x")
            assert error.value.place == f"x.{option}" + ("[0]" if many else ""), (option, value, str(error.value))
            assert str(error.value).count("expected") == 1 and "\n" not in str(error.value)


def required(cls: type) -> dict:
    """Something for the keys that have no default."""
    hints, out = typing.get_type_hints(cls), {}
    for f in dataclasses.fields(cls):
        if f.default == "???":
            choices = typing.get_args(hints[f.name]) if typing.get_origin(hints[f.name]) is typing.Literal else ("x",)
            out[f.name] = {int: 1, float: 1.0}.get(hints[f.name], choices[0])
    return out


def test_the_page_of_options_is_what_the_files_say():
    assert PAGE.read_text() == page(), "run python -m tests.options_table"


def kind(name: str, **options) -> dict:
    given = {"opd": {"student": "s", "data": "d"}, "rl": {"policy": "p", "data": "d"}, "evaluate": {"model": "m", "data": "d"}}
    return merge(KINDS[name], {"kind": name, **given.get(name, {}), **options}, "x")


REFUSED = {
    "lr": (("opd", {"optim": {"lr": -1}}), "x.optim.lr: expected at least 0, found -1"),
    "a share of the steps": (("opd", {"optim": {"warmup": 100}}), "x.optim.warmup: expected 0 to 1, found 100"),
    "one beta": (("rl", {"optim": {"betas": [0.9]}}), "x.optim.betas: expected len(betas) == 2; found betas [0.9]"),
    "beta of 1": (("rl", {"optim": {"betas": [0.9, 1]}}), "x.optim.betas[1]: expected at least 0, below 1, found 1"),
    "eps": (("rl", {"optim": {"eps": 0}}), "x.optim.eps: expected above 0, found 0"),
    "clip": (("opd", {"optim": {"clip": -1}}), "x.optim.clip: expected at least 0"),
    "weight decay": (("opd", {"optim": {"weight_decay": -5}}), "x.optim.weight_decay: expected at least 0"),
    "temperature": (("opd", {"sampling": {"temperature": -1}}), "x.sampling.temperature: expected at least 0, found -1"),
    "top_p in per cent": (("evaluate", {"temperature": -1}), "x.temperature: expected at least 0"),
    "no top_p": (("opd", {"sampling": {"top_p": 0}}), "x.sampling.top_p: expected above 0, at most 1, found 0"),
    "no samples": (("rl", {"sampling": {"n": 0}}), "x.sampling.n: expected at least 1, found 0"),
    "a stop string of nothing": (
        ("rl", {"sampling": {"stop": ["b", ""]}}),
        "x.sampling.stop: expected '' not in stop; found stop ['b', '']",
    ),
    "one stop string": (("rl", {"sampling": {"stop": "b"}}), "x.sampling.stop: expected a list, found 'b'"),
    "a stop string that is none": (("opd", {"sampling": {"stop": [1]}}), "x.sampling.stop[0]: expected text, found 1"),
    "an evaluation's stop string of nothing": (("evaluate", {"stop": [""]}), "x.stop: expected '' not in stop"),
    "no tokens": (("rl", {"sampling": {"max_new_tokens": 0}}), "x.sampling.max_new_tokens: expected at least 1"),
    "rl clip": (("rl", {"clip_low": 5}), "x.clip_low: expected 0 to 1, found 5"),
    "rl kl": (("rl", {"kl": -1}), "x.kl: expected at least 0"),
    "one reward": (("rl", {"rewards": [1]}), "x.rewards: expected len(rewards) == 2"),
    "equal rewards": (("rl", {"rewards": [1, 1]}), "x.rewards: expected rewards[0] < rewards[1]; found rewards [1.0, 1.0]"),
    "long buffer": (
        ("rl", {"overlong_buffer": 99}),
        "x.overlong_buffer: expected overlong_buffer < sampling.max_new_tokens; found overlong_buffer 99, sampling.max_new_tokens 32",
    ),
    "minibatches": (("opd", {"minibatches": 33}), "x.minibatches: expected minibatches <= prompts * sampling.n; found minibatches 33"),
    "k": (("evaluate", {"k": -1}), "x.k: expected at least 0"),
    "limit": (("evaluate", {"limit": -3}), "x.limit: expected at least 0, found -3"),
    "a split twice": (("evaluate", {"splits": ["test", "test"]}), "x.splits: expected unique(splits); found splits ['test', 'test']"),
    "an unknown split": (("evaluate", {"splits": ["dev"]}), "x.splits[0]: expected one of train, test, ood, found 'dev'"),
    "no split": (("evaluate", {"splits": []}), "x.splits: expected len(splits) >= 1"),
    "a seed below 0": (("data", {"seed": -1}), "x.seed: expected at least 0, found -1"),
    "a seed of 20 digits": (("data", {"seed": 10**19}), "x.seed: expected a whole number, found 10000000000000000000: whole numbers stay"),
    "a time": (
        ("data", {"resources": {"runtime": "24:00:00"}}),
        "x.resources.runtime: expected a whole number, found '24:00:00': a time is one number, in the unit that docs/options.md names",
    ),
    "a commit": (("model", {"revision": float("inf")}), "x.revision: expected text, found inf: put it in quotes"),
    "an octal number": (("opd", {"steps": "0100"}), "x.steps: expected a whole number, found '0100'"),
    "no as text": (("data", {"system": False}), "x.system: expected text, found false: put it in quotes"),
    "NaN in a model's config": (("model", {"config": {"a": [float("nan")]}}), "x.config.a[0]: expected a finite number, found nan"),
    "a number as a key": (("model", {"config": {1: 2}}), "x.config: expected text as a key, found 1: put it in quotes"),
    "held out twice": (("data", {"source": {"name": "hf", "path": "p", "test": 5}}), "x.source.test: expected test == 0 or test_split == ''"),
    "held out below 0": (("data", {"source": {"name": "jsonl", "path": "p", "test": -5}}), "x.source.test: expected at least 0, found -5"),
    "an operator": (("data", {"source": {"name": "arithmetic", "operators": ["/"]}}), "x.source.operators[0]: expected one of +, -, *, found"),
    "modulus": (("data", {"source": {"name": "arithmetic", "modulus": 1}}), "x.source.modulus: expected 0 or at least 2, found 1"),
    "a repair": (("data", {"source": {"name": "arithmetic", "repair": 1.5}}), "x.source.repair: expected 0 to 1, found 1.5"),
    "a marker alone": (("data", {"verifier": {"name": "exact", "or_after": ["!"]}}), "x.verifier.after: expected after != '' or or_after =="),
    "an empty marker": (("data", {"verifier": {"name": "exact", "after": "=", "or_after": [""]}}), "x.verifier.or_after: expected '' not in"),
    "letters": (("data", {"source": {"name": "json_ranking", "names": "aab"}}), "x.source.names: expected names.isalpha() and unique(names)"),
    "too few letters": (("data", {"source": {"name": "json_ranking", "items": [9]}}), "x.source.items: expected max(items) <= min(len(names)"),
    "wrapped": (("data", {"source": {"name": "hinted", "of": {"name": "arithmetic", "digits": 0}}}), "x.source.of.digits: expected 1 to"),
}  # fmt: skip
ROWS = {
    "jsd": ({"signal": {"name": "jsd", "beta": 2}}, "x.signal.beta: expected 0 to 1, found 2"),
    "power": ({"signal": {"name": "power", "alpha": -1}}, "x.signal.alpha: expected above 0, found -1"),
    "skew": ({"signal": {"name": "skew", "alpha": 1.5}}, "x.signal.alpha: expected 0 to 1"),
    "prefix": ({"weight": [{"name": "first_tokens", "length": 0}]}, "x.weight[0].length: expected at least 1, found 0"),
    "a cap": ({"estimator": {"name": "pg", "ratio": "sampler", "is_cap": -1}}, "x.estimator.is_cap: expected at least 0"),
    "a mask": (
        {"estimator": {"name": "pg", "ratio": "sampler", "mask_low": 3, "mask_high": 1}},
        "x.estimator.mask_low: expected mask_low < mask_high or mask_high == 0; found mask_low 3.0, mask_high 1.0",
    ),
    "a clip turned round": ({"transform": [{"name": "clip", "low": 2}]}, "x.transform[0].low: expected low < high"),
    "floor": ({"transform": [{"name": "floor", "lam": 1}]}, "x.transform[0].lam: expected above 0, below 1, found 1"),
    "k": ({"support": {"name": "union", "k": 0}}, "x.support.k: expected at least 1, found 0"),
    "change point": ({"weight": [{"name": "change_point", "k": 1}]}, "x.weight[0].k: expected at least 2"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_a_kind(case):
    (name, options), says = REFUSED[case]
    with pytest.raises(UserError) as error:
        kind(name, **options)
    assert str(error.value).startswith(says)


@pytest.mark.parametrize("case", ROWS)
def test_refused_in_a_method(case):
    options, says = ROWS[case]
    with pytest.raises(UserError) as error:
        merge(Term, options, "x")
    assert str(error.value).startswith(says)


def test_what_is_right_is_taken():
    ends = {"lr": 0, "warmup": 1, "betas": [0, 0.999], "clip": 0}
    made = kind(
        "rl",
        optim=ends,
        clip_low=0,
        rewards=[-1, 1],
        sampling={"top_p": 1, "temperature": 0, "n": 4},
        steps="1e3",
        minibatches=64,
    )
    assert made["steps"] == 1000 and made["optim"]["betas"] == [0.0, 0.999] and made["sampling"]["n"] == 4
    assert kind("evaluate", k=0, limit=0, fewshot=None)["fewshot"] is None
    for signal in ({"name": "jsd", "beta": 0}, {"name": "jsd", "beta": 1}, {"name": "power", "alpha": 500}):
        merge(Term, {"signal": signal, "coef": -2.5}, "x")
    merge(Term, {"estimator": {"name": "pg", "ratio": "sampler", "mask_low": 0.5}}, "x")  # no upper bound
    assert kind("data", system="no", seed=2**63 - 1)["system"] == "no"


@pytest.mark.parametrize(
    "words", ["", "at least", "over 3", "0 to", "above 1 to 2", "0 or", "anything", "at least 1 and below 2"]
)
def test_words_that_are_no_range(words):
    with pytest.raises(ValueError, match="no range"):
        inside(1, words)


def test_ranges_by_hand():
    assert inside(2, "0 or at least 2") and inside(0, "0 or at least 2") and not inside(1, "0 or at least 2")
    assert inside(1e-9, "1e-9 to 0.5") and not inside(0.51, "1e-9 to 0.5") and inside(-7, "any")
    assert not inside(0, "above 0, at most 1") and inside(1, "above 0, at most 1") and not inside(-1, "at most -2")
