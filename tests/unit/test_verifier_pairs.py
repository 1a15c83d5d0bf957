"""The table of verdicts (verifier_pairs.yaml): ours, those of the data sets' own graders, and the same wherever a completion is judged."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import yaml
from lm_eval.tasks.hendrycks_math import utils as hendrycks

from opd_steps.config import plugs
from opd_steps.evaluation.split_task import SplitTask
from opd_steps.models.tokenizers import byte_tokenizer, encode
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.tasks.asking import Task
from opd_steps.tasks.pool import PromptPool

TABLE = yaml.safe_load(Path(__file__).with_name("verifier_pairs.yaml").read_text())
PAIRS = [pytest.param(name, *row[:4], row[4:], id=f"{name}-{i}") for name, rows in TABLE.items() for i, row in enumerate(rows)]


def gsm8k_says(completion: str, gold: str) -> bool:
    found = re.search(r"#### (\-?[0-9\.\,]+)", completion)
    return bool(found) and found[1].replace(",", "") == gold


def hendrycks_says(completion: str, gold: str) -> bool:
    box = hendrycks.last_boxed_only_string(completion)
    try:
        return box is not None and hendrycks.is_equiv(hendrycks.remove_boxed(box), gold)
    except AssertionError:
        return False


def sdpo_says(completion: str, gold: str) -> bool:
    """As its reward of multiple choice (verl/utils/reward_score/feedback/mcq.py): the tags' text, compared as it stands."""
    return completion.split("<answer>")[-1].split("</answer>")[0].strip() == gold


GRADERS = {"gsm8k": gsm8k_says, "math": hendrycks_says, "aime": hendrycks_says, "sdpo": sdpo_says}


@pytest.mark.parametrize(("name", "completion", "gold", "score", "source", "theirs"), PAIRS)
def test_the_verdict_is_the_tables(name, completion, gold, score, source, theirs):
    assert plugs.load("tasks/verifiers", {"name": name}).score(completion, gold) == score
    if source in GRADERS:
        assert GRADERS[source](completion, gold) == (theirs[0] if theirs else score)
    assert not theirs or (theirs[0] != score and theirs[1])  # a difference has a reason


def test_the_table_is_large_and_fair():
    rows = [row for rows in TABLE.values() for row in rows]
    assert len(rows) >= 120 and len({(name, *row[:2]) for name, rows in TABLE.items() for row in rows}) == len(rows)
    assert min(sum(row[2] == score for row in rows) for score in (0, 1)) >= 50
    assert all(sum(row[3] == source for row in rows) >= 5 for source in GRADERS)


@pytest.mark.parametrize("name", TABLE)
def test_training_rollouts_and_evaluation_judge_alike(name):
    """Rewards of rollouts (from token ids) and lm-eval's scores (from its texts) are the verifier's verdicts."""
    pairs = [row[:3] for row in TABLE[name] if "binom" not in row[0]]
    tokenizer = byte_tokenizer()
    rows = [{"id": str(i), "prompt": "?", "answer": gold} for i, (_, gold, _) in enumerate(pairs)]
    task = Task({"name": name}, {"name": "none"}, chat=False, system=None)
    pool = PromptPool(rows, task, tokenizer)
    actions = [torch.tensor([*encode(tokenizer, text), tokenizer.eos_token_id]) for text, _, _ in pairs]
    wanted = [float(score) for _, _, score in pairs]
    assert pool.rewards(Trajectory([[0]] * len(pairs), actions, torch.arange(len(pairs)))) == wanted
    split = SplitTask("test", pool, 1, {"temperature": 1.0}, 6, "<eos>")
    judge = split.configs()[0]["process_results"]
    assert [judge({"row": i}, [[text]])["accuracy"] for i, (text, _, _) in enumerate(pairs)] == wanted
