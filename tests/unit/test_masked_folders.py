"""Masked diffusion language models as folders: transformers' own, one with code of its own, and trainings that they do not have."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import ModernBertForMaskedLM

from opd_steps.errors import UserError
from opd_steps.loop.objective import Objective
from opd_steps.models.bases import Base, Tuning
from opd_steps.models.families.masked_lm import MaskedLM
from opd_steps.models.numerics import Numerics
from opd_steps.models.tokenizers import byte_tokenizer
from opd_steps.prefixes.denoised import by_state
from opd_steps.teachers.contexts.suffix import Suffix
from opd_steps.tune.lora import Lora
from tests.unit.llada_toys import MASK, write_llada
from tests.unit.test_masked import BLOCK, EACH, PLACES, STEP_LEVEL, family, made, moved, policy, written
from tests.unit.test_papers import ROOT, graph


def test_folders_are_transformers_own(tmp_path):
    (tmp_path / "node").mkdir()
    student = moved(policy(made(tmp_path / "node"), train=True))
    family().save(student, tmp_path)
    theirs = ModernBertForMaskedLM.from_pretrained(tmp_path / "model").eval()
    again = policy(tmp_path)
    rows = written(again)
    assert again.dist(rows).hidden_ND.equal(student.dist(rows).hidden_ND)
    tokens = torch.tensor([[5, 6, again.mask, 7]])
    assert theirs(input_ids=tokens).logits.equal(student.model(input_ids=tokens).logits)
    assert again.tokenizer.mask_token == "<mask>" and theirs.config.vocab_size == len(again.tokenizer)


def test_a_checkpoint_with_code_of_its_own_is_run_when_that_is_allowed(tmp_path):
    """LLaDA's form: its names, its class in its own file; trained by an adapter, and whole."""
    theirs, node = write_llada(tmp_path / "theirs", byte_tokenizer()), tmp_path / "node"
    node.mkdir()
    job = lambda: SimpleNamespace(stage=node, seed=0, options={"path": str(theirs), "revision": None}, sources={}, manifests={})
    with pytest.raises(UserError, match="trust_remote_code"):
        MaskedLM(mask=MASK).make(job())
    with pytest.raises(UserError, match="no token"):
        MaskedLM(trust_remote_code=True).make(job())
    ours = MaskedLM(block=BLOCK, per_step=EACH, mask=MASK, trust_remote_code=True)
    assert ours.make(job())["weights"] and "modeling_llada.py" in (node / "link.json").read_text()
    sampling = {"temperature": 1.0, "max_new_tokens": PLACES}
    model = ours.policy(node, sampling=sampling, train=True)
    assert type(model.model).__name__ == "LLaDAModelLM" and model.mask == model.vocab - 1
    rows = written(model)
    torch.testing.assert_close(
        rows.logp_N, model.dist(rows).chunk(0, len(rows.action_N)).logp(rows.action_N), rtol=1e-3, atol=1e-3
    )
    ours.save(moved(model), tmp_path / "trained")
    again = ours.policy(tmp_path / "trained", sampling=sampling)
    assert (
        again.dist(rows).hidden_ND.equal(model.dist(rows).hidden_ND)
        and (tmp_path / "trained/model/modeling_llada.py").is_file()
    )

    tuning = Tuning(Lora(r=4, targets=["q_proj", "k_proj", "v_proj", "up_proj"]), 0, Base("x", "", "y"))
    bf16 = Numerics("bfloat16", "bfloat16", recompute=True)
    student = ours.policy(node, sampling=sampling, train=True, tuning=tuning, numerics=bf16)
    states = Suffix(0.5).prepare(by_state(written(student)), None, 0, "told")
    found = Objective.from_method(STEP_LEVEL, PLACES).backward(student, states, {}, {"told": student.begun()}, micro_batch=2)
    trained = {name.split(".")[-4] for name, p in student.model.named_parameters() if p.grad is not None}
    assert found["divergence"] > 0 and trained == {"q_proj", "k_proj", "v_proj", "up_proj"}


REFUSED = """
paper: {title: Refused, arxiv: "", axes: {teacher: self, signal: logits, rollouts: all, slot: post-sft}}
nodes:
  data: {kind: data, source: {name: reversed_twice, digits: 2, train: 8, test: 2, ood: 2}, verifier: exact}
  init: {kind: model, data: data, family: {name: masked_lm}, config: {hidden_size: 16}}
  base: {kind: KIND, WHO: init, data: data}
"""


@pytest.mark.parametrize(("kind", "who"), [("pretrain", "model"), ("sft", "student")])
def test_training_from_left_to_right_is_refused_before_anything_runs(tmp_path, monkeypatch, kind, who):
    monkeypatch.chdir(ROOT)
    (tmp_path / "refused.yaml").write_text(REFUSED.replace("KIND", kind).replace("WHO", who))
    with pytest.raises(UserError, match="from masked copies"):
        graph(papers=[str(tmp_path / "refused.yaml")])
