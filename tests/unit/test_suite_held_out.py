"""Negative log-likelihood of written text: against whole logits, of spans, by prompt."""

from __future__ import annotations

import json
from statistics import fmean
from types import SimpleNamespace

import pytest
import torch

from opd_steps.config import plugs
from opd_steps.errors import UserError
from opd_steps.models.families.causal_lm import CausalLM
from opd_steps.tasks.pool import PromptPool
from tests.pipeline.stages import Stages
from tests.unit.opd_toys import SHAPE


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    stages = Stages(tmp_path_factory.mktemp("toys"))
    source = {"name": "arithmetic", "train": 20, "test": 11, "ood": 5}
    stages.run("data", "data", source=source, verifier={"name": "exact", "after": "="})
    config = SHAPE | {"tie_word_embeddings": True}
    stages.run("small", "model", {"data": "data/data"}, config=config)
    policy = CausalLM().policy(stages.results / "p/model/small/seed0")

    def measured(name: str, batch: int = 4, **suite):
        parents = {"model": "model/small", "data": "data/data"}
        suite = {"name": "held_out"} | suite
        return stages.run(name, "evaluate", parents, suite=suite, splits=["test", "ood"], batch=batch)

    pool = lambda split: PromptPool.load(stages.results / "p/data/data/seed0", split, policy.tokenizer)
    return SimpleNamespace(measured=measured, policy=policy, pool=pool, folder=stages.results / "p/evaluate")


@torch.no_grad()
def plain(toys, split: str, column: str, loss_on: str = "response", after: str = "") -> tuple[float, int]:
    """(sum, tokens), row by row without padding, from whole logits and the text itself: here a token is a character."""
    policy, total, tokens = toys.policy, 0.0, 0
    for row in toys.pool(split).rows:
        text = row["prompt"] + row[column]
        ids = [*policy.tokenizer(text, add_special_tokens=False)["input_ids"], policy.tokenizer.eos_token_id]
        first = {"all": 1, "response": len(row["prompt"])}[loss_on]
        if after:
            first = text.rindex(after) + len(after)
        logp = torch.log_softmax(policy.model(torch.tensor([ids])).logits[0, :, : policy.vocab].double(), -1)
        total -= sum(float(logp[t - 1, ids[t]]) for t in range(first, len(ids)))
        tokens += len(ids) - first
    return total, tokens


@pytest.mark.parametrize(
    "options",
    [{}, {"column": "solution"}, {"column": "solution", "after": "="}, {"loss_on": "all"}],
    ids=["corpus", "solution", "answer", "all"],
)
def test_it_is_the_mean_over_the_tokens_that_count(toys, options):
    found = toys.measured("it", **options)["metrics"]
    for split in ("test", "ood"):
        total, tokens = plain(toys, split, **{"column": "corpus"} | options)
        assert found[f"{split}/nll"] == pytest.approx(total / tokens, rel=1e-5)
        rows = [json.loads(line) for line in (toys.folder / f"it/seed0/samples/{split}.jsonl").read_text().splitlines()]
        at_prompt = plugs.constant("evaluation/suites", "held_out", "PROMPTS")["nll"]
        assert fmean(eval(at_prompt, {}, row) for row in rows) == pytest.approx(found[f"{split}/nll"], rel=1e-12)
        assert sum(row["tokens"] for row in rows) == tokens and rows[0]["id"] == f"{split}-0"


def test_batches_change_nothing(toys):
    one, other = (toys.measured(f"by{batch}", batch)["metrics"]["test/nll"] for batch in (1, 100))
    assert one == pytest.approx(other, rel=1e-6)


def test_mistakes_end_with_one_line(toys):
    with pytest.raises(UserError, match="after: '\\?' stands nowhere in"):
        toys.measured("mark", after="?")
    with pytest.raises(UserError, match="no column 'text'"):
        toys.measured("column", column="text")
    with pytest.raises(UserError, match="loss_on == 'response' or after == ''"):
        toys.measured("both", loss_on="all", after="=")
