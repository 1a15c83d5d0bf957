"""One update by verl on two ranks against the local loop's, method by method: loss, gradient norm, figures, every weight."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch

from opd_steps.config.merge import merge
from opd_steps.graph.method import Method
from opd_steps.graph.options import Optim
from opd_steps.loop.objective import Objective
from opd_steps.loop.optim import apply_gradient, clip_gradient, make_optimizer
from opd_steps.models.adapters import save_adapter
from opd_steps.models.folder import load_model, load_tokenizer
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.models.numerics import FP32
from opd_steps.nouns.teaching import Given
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.stream import Moment
from opd_steps.teachers.cached import CachedTeacher
from opd_steps.teachers.router import Router
from opd_steps.teachers.sources.ema import EMA
from opd_steps.teachers.view import ModelTeacher
from opd_steps.tune.lora import Lora
from opd_steps.verl import columns
from opd_steps.verl.beside import told
from tests.pipeline.stages import save_checkpoint

WINDOW, K, ROWS = 12, 5, 8
# Adam's first step is g / (|g| + eps): where eps is not far above fp32's noise of a gradient (1e-9 here), a weight is as far off as that
OPTIM = vars(Optim(lr=1e-2, eps=1e-4, weight_decay=0.1, clip=0.5))
CAUSAL = {"name": "causal_lm"}
TOPK = {"name": "teacher_topk", "k": K}
METHODS = {
    "vanilla": {},
    "ratio": {"estimator": {"name": "pg", "ratio": "sampler", "clip_low": 0.2, "clip_high": 0.3}, "aggregate": "seq_mean"},
    "topk tail": {"support": TOPK | {"norm": "tail"}, "signal": {"name": "rkl"}, "estimator": {"name": "exact"}},
    "jsd": {"support": TOPK, "signal": {"name": "jsd"}, "estimator": {"name": "exact"}, "aggregate": "seq_mean"},
    "k3": {"estimator": {"name": "k3"}, "aggregate": "seq_sum"},
    "outcome": {
        "aggregate": "window_mean",
        "add": [{"signal": {"name": "outcome"}, "estimator": {"name": "pg"}, "coef": 0.5}],
    },
}
FULL = {"support": {"name": "full"}, "signal": {"name": "rkl"}, "estimator": {"name": "exact"}}
ROUTE = {"first": "told", "second": "teacher"}
BESIDE = {
    "full": FULL,
    "full jsd": FULL | {"signal": {"name": "jsd"}, "aggregate": "seq_mean"},
    "another prompt": FULL | {"against": "told"},
    "two teachers": FULL | {"add": [{"against": "told", "coef": 0.5}]},
    "a reference": {"target": {"name": "extrapolate", "lam": 1.5}},
    "whole batch": {"weight": [{"name": "balance"}], "aggregate": "seq_mean"},
    "surveyed weight": FULL | {"weight": [{"name": "entropy_top", "share": 0.4}]},
    "surveyed advantage": {"transform": [{"name": "zscore"}]},
    "surveyed mask": FULL | {"where": [{"name": "more_likely_by"} | ROUTE], "aggregate": "seq_mean"},
    "routed": FULL | {"against": "routed"},
    "a moving average": FULL | {"against": "average"},
    "itself, told more": FULL | {"against": "itself"},
    "an adapter": FULL,
}
"""Their teachers are in the training workers."""
MOVING, RATE = ("a moving average", "itself, told more"), 0.3
ADAPTED, RANK = "an adapter", 4
METHODS |= BESIDE
CASES = [(name, packed) for packed in (False, True) for name in METHODS]


def rows_of(student: LMPolicy, teacher: LMPolicy) -> Trajectory:
    """Ragged rows that the student's sampler was a little off on; the teacher's words on them as a server gives them."""
    draw = torch.Generator().manual_seed(5)
    drawn = lambda n: torch.randint(0, 256, (n,), generator=draw)
    prompts = [drawn(2 + i % 4) for i in range(ROWS)]
    actions = [drawn(3 + (5 * i) % 8) for i in range(ROWS)]
    rows = Trajectory([p.tolist() for p in prompts], actions, torch.arange(ROWS) // 4)
    rows = rows.with_columns(reward_B=torch.tensor([1.0, 1, 0, 1, 0, 0, 1, 0]))
    shown = [drawn(3 + i % 3).tolist() if i % 3 else c for i, c in enumerate(rows.contexts)]
    rows = rows.with_context("told", shown).with_context("itself", shown)
    rows = rows.with_columns(extra=rows.extra | {"routed:route": [i % 3 % 2 for i in range(ROWS)]})
    with torch.no_grad():
        q, p = (policy.dist(rows).chunk(0, len(rows.action_N)) for policy in (student, teacher))
    near_N = q.logp(rows.action_N) + 0.1 * torch.randn(len(rows.action_N), generator=draw)
    cut = lambda value_N: list(value_N.split(rows.length_B.tolist()))
    logp_NK, ids_NK = p.topk(K)
    said = {"teacher:logp": cut(p.logp(rows.action_N)), "teacher:topk_ids": cut(ids_NK), "teacher:topk_logp": cut(logp_NK)}
    return rows.with_columns(logp=cut(near_N), extra=rows.extra | said)


def as_verl(rows: Trajectory, outcome_B: torch.Tensor) -> dict:
    """The same rows in verl's columns; a server's words stand at the token before the one that they are about."""
    found = {
        "prompts": [torch.tensor(c) for c in rows.contexts],
        "responses": list(rows.actions),
        "rollout_log_probs": list(rows.logp),
    }
    ids, logps = [], []
    for i, (prompt, action) in enumerate(zip(rows.contexts, rows.actions, strict=True)):
        own, top = rows.extra["teacher:logp"][i], rows.extra["teacher:topk_logp"][i]
        before, behind = torch.zeros(len(prompt) - 1, 1 + K), torch.zeros(1, 1 + K)
        logps.append(torch.cat([before, torch.cat([own[:, None], top], 1), behind]))
        ids.append(torch.cat([before, torch.cat([action[:, None], rows.extra["teacher:topk_ids"][i]], 1), behind]).int())
    told = {name: list(value.unbind()) for name, value in columns.prepared(rows).items()}
    return found | told | {"teacher_ids": ids, "teacher_logprobs": logps, "outcome": list(outcome_B)}


def adapted(folder: Path) -> LMPolicy:
    """The student with an adapter as after some training: at its start half of its gradient is 0."""
    model = load_model(folder, "float32").requires_grad_(False)
    Lora(r=RANK).adapt(model, 3)
    draw = torch.Generator().manual_seed(4)
    for p in model.parameters():
        if p.requires_grad:
            p.data += 0.05 * torch.randn(p.shape, generator=draw)
    return LMPolicy(model, load_tokenizer(folder))


def local(
    folders: dict, rows: Trajectory, method: dict, outcome_B: torch.Tensor, teachers: dict, updates: int, adapts: bool
) -> dict:
    student, average = (LMPolicy(load_model(folders[name], "float32"), load_tokenizer(folders[name])) for name in ("s", "t"))
    student = adapted(folders["s"]) if adapts else student
    optimizer, objective = make_optimizer(student.model, OPTIM), Objective.from_method(method, WINDOW)
    moves = EMA(RATE).hook(Given("average", student, lambda: average, None))
    teachers = teachers | {"average": ModelTeacher(average), "itself": ModelTeacher(student)}
    teachers = {name: teacher for name, teacher in teachers.items() if name in objective.asks()}
    for k in range(updates):
        optimizer.zero_grad()
        figures = objective.backward(student, rows, {"outcome": outcome_B}, teachers, 2, Moment(1, 0, WINDOW))
        norm = clip_gradient(optimizer, OPTIM)
        apply_gradient(optimizer, k + 1, updates, OPTIM)
        moves(k + 1, student, {})
    return {
        "loss": figures.pop("loss"),
        "grad_norm": norm,
        "figures": figures,
        "weights": dict(student.model.named_parameters()),
    }


@pytest.fixture(scope="module")
def updates(tmp_path_factory, verl) -> dict:
    """Case -> (verl's, ours)."""
    work = tmp_path_factory.mktemp("verl")
    config = {"hidden_size": 32, "num_hidden_layers": 2, "initializer_range": 0.2}
    folders = {name: save_checkpoint(work / name / "model", seed=seed, **config).parent for seed, name in enumerate(("s", "t"))}
    policies = [LMPolicy(load_model(folders[name], "float32"), load_tokenizer(folders[name])) for name in ("s", "t")]
    rows, outcome_B = rows_of(*policies), torch.linspace(-1, 1, ROWS)
    checked = {name: merge(Method, m, name) for name, m in METHODS.items()}
    spec = {name: told(folder, CAUSAL, FP32, {"temperature": 1.0}) for name, folder in folders.items()}
    beside = {"teacher": spec["t"], "told": spec["t"], "reference": spec["s"], "average": spec["t"] | {"rate": RATE}}
    beside |= {"itself": spec["s"] | {"rate": 1.0}, "routed": {"to": {"even": "teacher", "odd": "reference"}}}
    served, models = {"teacher": CachedTeacher()}, dict(zip(spec, policies, strict=True))
    models = {"teacher": models["t"], "told": models["t"], "reference": models["s"]}
    models["routed"] = Router("", {"even": ModelTeacher(models["teacher"]), "odd": ModelTeacher(models["reference"])}, None)
    asked = {name: Objective.from_method(checked[name], WINDOW).asks().keys() & beside.keys() for name in METHODS}
    asked["routed"] |= {"teacher", "reference"}
    updates = {name: 2 if name in MOVING else 1 for name in METHODS}
    cases = [
        {
            "folder": str(folders["s"] / "model"),
            "method": checked[name],
            "window": WINDOW,
            "teachers": {who: beside[who] if name in BESIDE else None for who in sorted(asked[name])},
            "ours": rows,
            "updates": updates[name],
            "optim": OPTIM,
            "rows": as_verl(rows, outcome_B),
            "micro_batch": 2,
            "packed": packed,
            "adapter": str(work / "adapter") if name == ADAPTED else "",
            "rank": RANK,
        }
        for name, packed in CASES
    ]
    save_adapter(adapted(folders["s"]).model, work / "adapter")
    torch.save(cases, work / "cases.pt")
    python, env = verl
    command = [python, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "tests.verl.engine"]
    run = subprocess.run([*command, work / "cases.pt", work / "found.pt"], env=env, capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, run.stderr[-4000:]
    found = torch.load(work / "found.pt", weights_only=False)
    with_them = lambda name: (models if name in BESIDE else served, updates[name], name == ADAPTED)
    ours = {name: local(folders, rows, checked[name], outcome_B, *with_them(name)) for name in METHODS}
    return {case: (theirs, ours[case[0]]) for case, theirs in zip(CASES, found, strict=True)}


@pytest.mark.parametrize(("name", "packed"), CASES)
def test_an_update_of_two_ranks_is_the_local_one(updates, name, packed):
    theirs, ours = updates[name, packed]
    # a second update starts from weights that are as far off as a first one ends; then log-probs, of some nats, are, and not their differences
    close = lambda a, b: abs(a - b) <= 1e-5 * max(abs(b), 1.0 if name in MOVING else 1e-3)
    assert close(theirs["loss"], ours["loss"]) and close(theirs["grad_norm"], ours["grad_norm"])
    of_the_step = {"sampler_gap_max", "balanced_out", "share"}  # made by our trainer itself
    assert theirs["figures"].keys() == ours["figures"].keys() - of_the_step
    assert [n for n, value in theirs["figures"].items() if not close(value, ours["figures"][n])] == []
    assert theirs["weights"].keys() >= ours["weights"].keys()
    for weight, value in ours["weights"].items():
        gap = (theirs["weights"][weight] - value.detach()).abs().max() / value.abs().max()
        assert gap < 1e-5, (weight, float(gap))


def test_forward_kl_on_the_top_k_is_verls_own(verl, tmp_path):
    method = {"signal": {"name": "fkl"}, "support": TOPK | {"norm": "raw", "k": 7}, "estimator": {"name": "exact"}}
    (tmp_path / "method.json").write_text(json.dumps(merge(Method, method, "fkl")))
    python, env = verl
    run = subprocess.run(
        [python, "-m", "tests.verl.forward_kl", tmp_path / "method.json"], env=env, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr[-4000:]
    theirs, ours, gap, largest = json.loads(run.stdout.splitlines()[-1])
    assert ours == pytest.approx(theirs, rel=1e-6) and gap < 1e-6 * largest and theirs > 0.1


def test_who_sends_weights_to_a_broken_server_does_not_wait(verl):
    python, env = verl
    run = subprocess.run([python, "-m", "tests.verl.broken_server"], env=env, capture_output=True, text=True, timeout=300)
    assert run.stdout.splitlines()[-1:] == ["first second no room for them"], run.stderr[-4000:]
