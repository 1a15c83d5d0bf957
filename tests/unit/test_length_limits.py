"""The longest prompt and answer against what models and engines take: refused before anything starts."""

from __future__ import annotations

import pytest
from transformers import AutoConfig, GPT2Config, Qwen3Config

from opd_steps.errors import UserError
from opd_steps.rollout.lengths import engine_length, longest, require_room
from opd_steps.rollout.positions import positions


@pytest.fixture
def model(tmp_path) -> str:
    """One of 32 places."""
    Qwen3Config(max_position_embeddings=32).save_pretrained(tmp_path)
    return str(tmp_path)


@pytest.mark.parametrize(("asked", "prompt", "answer"), [(0, 16, 16), (32, 16, 16), (10, 4, 6), (22, 22, 0), (0, 32, 0)])
def test_what_fits_to_the_last_token(model, asked, prompt, answer):
    require_room("engine.max_model_len", model, asked, prompt, answer)


@pytest.mark.parametrize(
    ("asked", "prompt", "answer", "says"),
    [
        (
            10,
            7,
            16,
            "the longest row may have 7 tokens of prompt and 16 of answer: expected at least 23, or 0 for the model's own; found 10",
        ),
        (0, 7, 60, "the longest row may have 7 tokens of prompt and 60 of answer, 67 in all; the model .* has 32 places"),
        (0, 16, 17, "the longest row may have 16 tokens of prompt and 17 of answer, 33 in all"),
        (22, 23, 0, "the longest row has 23 tokens: expected at least 23"),
        (33, 1, 1, "33, but the model .* has 32 places: at most so many, or 0"),
    ],
)
def test_what_does_not(model, asked, prompt, answer, says):
    with pytest.raises(UserError, match=rf"engine\.max_model_len: {says}"):
        require_room("engine.max_model_len", model, asked, prompt, answer)


def test_a_model_that_does_not_say_its_length(tmp_path):
    AutoConfig.for_model("mamba").save_pretrained(tmp_path)
    require_room("engine.max_model_len", str(tmp_path), 0, 10**6, 10**6)
    assert engine_length(str(tmp_path), 0) is None and engine_length(str(tmp_path), 10) == 11
    with pytest.raises(UserError, match="expected at least 11"):
        require_room("engine.max_model_len", str(tmp_path), 10, 5, 6)


@pytest.mark.parametrize(
    ("config", "found"),
    [
        (GPT2Config(n_positions=48), 48),
        (Qwen3Config(max_position_embeddings=64), 64),
        (Qwen3Config(max_position_embeddings=64, rope_parameters={"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e4}), 64),
        (
            Qwen3Config(max_position_embeddings=64, rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}),
            128,
        ),
    ],
)
def test_places(config, found):
    assert positions(config) == found


def test_an_engine_is_given_one_place_more(model):
    """Scoring a row asks vLLM for a token behind it."""
    assert engine_length(model, 0) == 33 and engine_length(model, 10) == 11


def test_longest():
    assert longest([[1], [1, 2, 3], []]) == 3 and longest([]) == 0
