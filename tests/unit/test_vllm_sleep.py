"""An engine that sleeps while nobody asks it, against one that is no vLLM: on a CPU none can."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from opd_steps.errors import UserError
from opd_steps.graph.cost.memory import fit
from opd_steps.rollout import vllm_engine
from opd_steps.rollout.vllm_engine import VllmEngine
from tests.unit.test_cost_fits import CARD, built


class Fake:
    """Says what was done with it; asked in its sleep it breaks."""

    def __init__(self):
        self.done, self.asleep = [], False

    def __getattr__(self, name):
        def call(*_, **__):
            assert self.asleep == (name == "wake_up"), name
            self.asleep = name == "sleep"
            self.done.append(name)
            return []

        return call


@pytest.fixture
def engine(monkeypatch):
    """One that was just built, as its own constructor leaves it."""
    monkeypatch.setattr(vllm_engine, "own_randomness", nullcontext)
    monkeypatch.setattr(VllmEngine, "gap", lambda self, model: self.generate([[1]], [0], **ASKED) and 0.0)
    monkeypatch.setattr(VllmEngine, "weights", lambda self, model: {})

    def make(sleeps: bool) -> VllmEngine:
        found = VllmEngine.__new__(VllmEngine)
        found.llm, found.seen = Fake(), SimpleNamespace()
        found._vllm = SimpleNamespace(SamplingParams=dict, TokensPrompt=dict)
        found.sleeps, found.asleep, found.asked = sleeps, False, 0
        found.ends, found.version, found.limit, found.tolerance = [2], 0, 99, 1.0
        with found._woken():
            pass
        return found

    return make


ASKED = {"max_new_tokens": 4, "temperature": 1.0, "top_p": 1.0}
UPDATE = ["start_weight_update", "update_weights", "finish_weight_update", "reset_prefix_cache", "generate"]


def step(engine: VllmEngine) -> list[str]:
    """What a step of training does with it: new weights, samples, scores; and later samples by the same weights."""
    engine.sync(None, 1)
    engine.generate([[1]], [0], **ASKED)
    engine.generate([[1]], [0], **ASKED)
    return engine.llm.done


def test_it_is_awake_while_it_is_asked_and_no_longer(engine):
    found = engine(True)
    assert found.llm.asleep
    assert step(found) == ["sleep", "wake_up", *UPDATE, "generate", "sleep", "wake_up", "generate", "sleep"]


def test_others_never_sleep(engine):
    assert step(engine(False)) == [*UPDATE, "generate", "generate"]


SLEEPS = {"name": "vllm", "memory": 0.5, "sleep": True}
STEP = {"kind": "opd", "student": "small", "teacher": "small", "data": "data"}


def test_the_plan_counts_it_where_it_is_awake(tmp_path):
    with pytest.raises(UserError, match=r"x would need about .* while learning, at the head: engine engine 40,"):
        built(tmp_path, x=STEP | {"engine": SLEEPS | {"sleep": False}, "resources": CARD})
    found = fit(built(tmp_path, x=STEP | {"engine": SLEEPS, "resources": CARD}).find("toy", "x"))
    assert found.phase == "learning, at the head" and "engine engine" not in found.parts
    wide = fit(built(tmp_path, x=STEP | {"engine": SLEEPS | {"memory": 0.85}, "resources": CARD}).find("toy", "x"))
    assert wide.phase == "sampling" and wide.parts["engine engine"] == 0.85 * CARD["gpu_mem_gb"] * 1e9


@pytest.mark.parametrize(
    "options",
    [
        {"engine": SLEEPS},  # without a GPU
        {"engine": SLEEPS | {"name": "server"}, "resources": CARD},
        {"engine": {"sleep": True}, "resources": CARD},
    ],
)
def test_what_cannot_sleep_is_refused(tmp_path, options):
    with pytest.raises(UserError, match=r"x\.engine\.sleep: what sleeps is vLLM in the step's own process, on a GPU"):
        built(tmp_path, x=STEP | options)
