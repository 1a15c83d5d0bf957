"""CaOPD's context: a prompt's samples and its demonstration state the share of right samples, or the number of the sanity check."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from opd_steps.nouns.trajectory import Trajectory
from opd_steps.tasks.verifiers.exact import Exact
from opd_steps.tasks.verifiers.with_confidence import WithConfidence
from opd_steps.teachers.contexts import calibrated


@pytest.mark.parametrize(("options", "stated"), [({}, "F"), ({"oracle": 0.3}, "D"), ({"oracle": 0.0}, "A")])  # marks A .. K
def test_samples_and_demonstration_state_the_rate(monkeypatch, options, stated):
    monkeypatch.setattr(calibrated, "encode", lambda tokenizer, text: [ord(c) for c in text])
    texts = ["1+2=3K", "1+2=4K"]  # one of two is right
    rows = Trajectory(
        [[0]] * 2,
        [torch.tensor([*map(ord, text), 1]) for text in texts],
        torch.tensor([0, 0]),
        reward_B=torch.tensor([1.0, 0.0]),
        ended_B=torch.tensor([True, True]),
    )
    pool = SimpleNamespace(
        task=SimpleNamespace(verifier=WithConfidence(of=Exact(after="="))),
        show=lambda rows: texts,
        tokenizer=None,
        rows=[{"solution": "1+2=3K"}],
        hinted=lambda prompt, right, note: right[0],
    )
    found = calibrated.Calibrated(**options).prepare(rows, pool, 0, "teacher")
    told = ["".join(map(chr, action[:-1].tolist())) for action in found.actions]
    assert told == [text[:-1] + stated for text in texts]
    assert found.extra["context:teacher"] == ["1+2=3" + stated] * 2
    assert found.logp is None
    stopped = calibrated.Calibrated(**options).prepare(rows.with_columns(stop=["", "!x"]), pool, 0, "teacher")
    assert stopped.actions[0].equal(found.actions[0])  # with its end token
    assert "".join(map(chr, stopped.actions[1].tolist())) == told[1] + "!x"  # which has none
