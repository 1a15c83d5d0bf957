"""Plugs and the Protocols of their groups: each plug has what its Protocol asks, and nothing that it does not know."""

from __future__ import annotations

import dataclasses
import importlib
import pickle

import pytest

from opd_steps.config import plug_schema, plugs
from opd_steps.config.needs import GROUPS
from opd_steps.errors import UserError
from tests.options_table import groups

EVERY = [(group, name) for group in groups() for name in plug_schema.names(group)]
LEGAL = {
    "SUPPORT": ("sampled", "set", "any"),
    "SIGNAL": ("any", "divergence", "fixed"),
    "KIND": ("divergence", "reward", "observed"),
    "ROWS": ("none", "sampled", "groups"),
}
TEACHER = {"estimator": ("support", "none", "hidden"), "support": ("sampled", "topk", "full")}  # elsewhere:
BESIDE = ("none", "sampled", "full")
CALLED = {"divergence": {"term", "reward"}, "reward": {"reward"}, "observed": {"observed"}}


def protocol(group: str) -> type:
    return getattr(importlib.import_module(f"opd_steps.{group.replace('/', '.')}"), plugs.protocol_def(group).name)


def plug_class(group: str, name: str) -> type:
    return getattr(importlib.import_module(f"opd_steps.{group.replace('/', '.')}.{name}"), plugs.class_def(group, name).name)


def own(cls: type, group: str, method: str) -> bool:
    """Whether a plug has the method itself, not its Protocol's."""
    return getattr(cls, method) is not getattr(protocol(group), method)


@pytest.mark.parametrize("group", groups())
def test_a_protocol_explains_its_constants_and_methods(group):
    cls = protocol(group)
    words = cls.__doc__.split()
    assert [name for name in plugs.declared(group).keys() - plugs.OF_ALL if name not in words] == []
    methods = [
        value
        for name, value in vars(cls).items()
        if not name.startswith("_") and (callable(value) or isinstance(value, property))
    ]
    assert methods and all(method.__doc__ for method in methods)


@pytest.mark.parametrize("group, name", EVERY)
def test_a_plug_is_a_dataclass_of_its_groups_protocol(group, name):
    cls = plug_class(group, name)
    assert protocol(group) in cls.__mro__ and not cls.__abstractmethods__
    assert {n: getattr(cls, n, plugs.OF_ALL.get(n)) for n in plugs.declared(group)} == plugs.constants(group, name)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    assert fields.keys() == plug_schema.schema(group, name).__dataclass_fields__.keys() - {"name"}
    made = cls(**{n: f"<{n}>" for n in fields})  # values are checked before, not here
    assert dataclasses.asdict(made) == {n: f"<{n}>" for n in fields}
    assert pickle.loads(pickle.dumps(made)) == made and isinstance(made, cls)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.new = 1


@pytest.mark.parametrize("slot, name", [(slot, name) for slot, group in GROUPS.items() for name in plug_schema.names(group)])
def test_a_plug_has_what_its_constants_promise(slot, name):
    group = GROUPS[slot]
    cls, constants = plug_class(group, name), plugs.constants(group, name)
    legal = LEGAL | {"TEACHER": TEACHER.get(slot, BESIDE)}
    assert {n: value for n, value in constants.items() if n in legal and value not in legal[n]} == {}
    if slot in ("transform", "weight"):
        one_by_one = "apply" if slot == "transform" else "weight_N"
        assert own(cls, group, "over_batch") == cls.WIDE != own(cls, group, one_by_one)
        assert own(cls, group, "survey") == cls.SURVEY <= cls.WIDE
    if slot == "signal":
        assert {method for method in ("term", "reward", "observed") if own(cls, group, method)} == CALLED[cls.KIND]


@pytest.mark.parametrize("name", plug_schema.names("tasks/verifiers"))
def test_a_verifier_that_measures_names_its_figures(name):
    group = "tasks/verifiers"
    assert own(plug_class(group, name), group, "measure") == bool(plugs.constant(group, name, "METRICS"))


@pytest.fixture
def toys(tmp_path, monkeypatch):
    """write(file, text) into a group of its own whose Protocol asks for SIZE and offers COLOUR."""
    monkeypatch.setattr(plugs, "PACKAGE", tmp_path)
    caches = (plugs.protocol_def, plugs.declared, plugs.class_def, plugs.constants)

    def write(name: str, text: str) -> None:
        (tmp_path / "toys").mkdir(exist_ok=True)
        (tmp_path / "toys" / f"{name}.py").write_text(text)
        for cache in caches:
            cache.cache_clear()

    write("__init__", "class Toy(Protocol):\n    SIZE: ClassVar[int]\n    COLOUR: ClassVar[str] = 'red'\n" + PLAY)
    yield write
    for cache in caches:
        cache.cache_clear()


PLAY = "    @abstractmethod\n    def play(self): ...\n"


def toy(body: str, base: str = "(Toy)", method: str = "play") -> str:
    return f"@dataclass(frozen=True)\nclass Ball{base}:\n    {body}\n    def {method}(self): pass\n"


def test_constants_are_the_plugs_own_else_its_protocols(toys):
    toys("ball", toy("SIZE: ClassVar[int] = 3\n    x: int = 1"))
    assert plugs.constants("toys", "ball") == {"SIZE": 3, "COLOUR": "red", "CHECKS": (), "OTHERS": {}, "UNCARRIED": ""}
    toys("ball", toy("SIZE = 3\n    COLOUR: ClassVar[str] = 'blue'\n    CHECKS: ClassVar[tuple] = ('x < 2',)"))
    assert plugs.constants("toys", "ball") == {"SIZE": 3, "COLOUR": "blue", "CHECKS": ("x < 2",), "OTHERS": {}, "UNCARRIED": ""}
    with pytest.raises(KeyError, match="WEIGHT"):
        plugs.constant("toys", "ball", "WEIGHT")


@pytest.mark.parametrize(
    "text, message",
    [
        (
            toy("SIZE: ClassVar[int] = 3\n    COLOR: ClassVar[str] = 'blue'"),
            r"ball.py: COLOR: no such constant .* COLOUR, OTHERS, SIZE",
        ),
        (toy("SIZE = 3\n    COLOR = 'blue'"), r"ball.py: COLOR: no such constant"),
        (toy("COLOUR: ClassVar[str] = 'blue'"), r"ball.py: SIZE: this constant is required: see Toy in opd_steps/toys"),
        (toy("SIZE: ClassVar[int] = 3", base=""), r"ball.py: class Ball: expected a subclass of Toy"),
        (toy("SIZE: ClassVar[int] = 3", method="roll"), r"ball.py: class Ball: lacks play: see Toy in opd_steps/toys"),
        (toy("SIZE: ClassVar[int] = MOST"), r"ball.py: SIZE: expected a literal, for plugs are read and not run; found MOST"),
        (
            toy("SIZE: ClassVar[int] = 3\n    x: tuple[int, ...] = ()"),
            r"ball.py: x: expected a type made of .*found tuple\[int",
        ),
        (toy("SIZE: ClassVar[int] = 3\n    x: int = MOST + 1"), r"ball.py: x: expected a literal, .*; found MOST \+ 1"),
        (toy("SIZE: ClassVar[int] = 3\n    x: list[int] = field(default_factory=make)"), r"ball.py: x: .*; found field\("),
        (toy("SIZE: ClassVar[int] = 3\n    x: list[int] = field(default_factory=lambda: [MOST])"), r"x: .*found \[MOST\]"),
        (toy("SIZE: ClassVar[int] = 3\n    x: Any = plug(GROUP)"), r"ball.py: x: expected a literal, .*; found GROUP"),
        ("x = 1\n", "expected exactly one dataclass, found 0"),
    ],
)
def test_a_plug_that_its_protocol_does_not_know_is_refused_when_its_options_are_read(toys, text, message):
    toys("ball", text)
    with pytest.raises(UserError, match=message):
        plug_schema.schema.__wrapped__("toys", "ball")


def test_a_group_without_a_protocol_is_refused(toys):
    toys("ball", toy("SIZE: ClassVar[int] = 3"))
    toys("__init__", "")
    with pytest.raises(UserError, match="exactly one Protocol, which lists what a plug of this group has, found 0"):
        plug_schema.schema.__wrapped__("toys", "ball")
