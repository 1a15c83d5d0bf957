"""A real `vllm serve` on loopback as the teacher: its scores, its deaths, and servers that are the wrong ones.

Servers that are too many or too slow to be real are in tests/unit/test_vllm_server.py.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from opd_steps.config.asks import Asks
from opd_steps.errors import UserError
from opd_steps.models.folder import where
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.rollout.vllm_cache import of_metrics
from opd_steps.rollout.vllm_process import OwnServer, healthy
from opd_steps.rollout.vllm_server import VllmServer
from opd_steps.teachers.engine import EngineTeacher
from tests.vllm.conftest import engine_options, policy_of, prompts

CAP = 20


LENGTH = 96  # tokens of the longest row


@pytest.fixture(scope="module")
def server(checkpoints, tmp_path_factory):
    """It knows its tokenizer, as one that somebody else starts."""
    command = OwnServer.command
    foreign = lambda self, port: [part for part in command(self, port) if part != "--skip-tokenizer-init"]
    policy = policy_of(checkpoints["tied"])
    log = tmp_path_factory.mktemp("server") / "server.log"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OwnServer, "command", foreign)
        options = engine_options(max_model_len=LENGTH)
        found = VllmServer(where(checkpoints["tied"]), options, "float32", policy.tokenizer, CAP, log)
        yield found
    found.close()


def asked(policy) -> tuple[list[list[int]], list[torch.Tensor]]:
    actions = [torch.from_numpy(np.random.default_rng(i).integers(0, 200, 1 + i)) for i in range(70)]
    return prompts(70, policy.vocab), actions


@pytest.mark.parametrize("k", [0, 5])
def test_its_scores_are_those_of_transformers(server, checkpoints, k):
    """More rows than one request takes."""
    policy = policy_of(checkpoints["tied"])
    contexts, actions = asked(policy)
    rows = [c + a.tolist() for c, a in zip(contexts, actions, strict=True)]
    logp, ids, best = server.score(rows, [len(c) for c in contexts], k)
    dist = policy.dist(Trajectory(contexts, actions, torch.arange(70)))
    expected_NV = torch.cat([dist.chunk(i, i + 500).logp_NV for i in range(0, len(dist), 500)])
    assert [len(x) for x in logp] == [len(a) for a in actions]
    assert float((expected_NV.gather(-1, torch.cat(actions)[:, None])[:, 0] - torch.cat(logp)).abs().max()) < 1e-4
    assert torch.cat(ids).shape == (len(expected_NV), k)
    if k:
        assert float((expected_NV.topk(k).values - torch.cat(best)).abs().max()) < 1e-4
        assert float((expected_NV.gather(-1, torch.cat(ids)) - torch.cat(best)).abs().max()) < 1e-4


def test_it_says_how_full_its_cache_is(server):
    said = server.posted("/metrics").decode()
    assert "\nvllm:kv_cache_usage_perc{" in said and "\nvllm:num_preemptions_total{" in said
    assert of_metrics(said) == (0.0, 0)  # at rest


def attach(server, checkpoint: Path, tokenizer, scores: int = CAP, **changes) -> VllmServer:
    options = engine_options(name="server", **({"url": server.url} | changes))
    return VllmServer(where(checkpoint), options, "float32", tokenizer, scores, server.own.log)


def test_one_that_runs_already_is_used(server, checkpoints):
    policy = policy_of(checkpoints["tied"])
    other = attach(server, checkpoints["tied"], policy.tokenizer)
    assert other.own is None
    rows = prompts(3, policy.vocab)
    for one, same in zip(server.score(rows, [1] * 3, 2), other.score(rows, [1] * 3, 2), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    other.close()
    assert healthy(server.url)  # not ours to stop


class Shifted:
    """A tokenizer that reads other tokens."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def __call__(self, text: str, **options) -> dict:
        return {"input_ids": [i + 1 for i in self.tokenizer(text, **options)["input_ids"]]}


def test_the_wrong_ones_are_refused_before_the_first_request(server, checkpoints):
    tokenizer = policy_of(checkpoints["tied"]).tokenizer
    with pytest.raises(UserError, match=r"serves .*/tied/model, not the teacher .*/untied/model"):
        attach(server, checkpoints["untied"], tokenizer)
    with pytest.raises(UserError, match="its tokenizer is not the teacher's"):
        attach(server, checkpoints["tied"], Shifted(tokenizer))
    with pytest.raises(UserError, match=r"refuses a request for 21 log-probs a token: .*20"):
        attach(server, checkpoints["tied"], tokenizer, scores=CAP + 1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} is in use"):
            attach(server, checkpoints["tied"], tokenizer, url="", port=port)
    with pytest.raises(UserError, match="no vLLM server answers there"):
        attach(server, checkpoints["tied"], tokenizer, url=f"http://127.0.0.1:{port}")


def test_rows_that_fill_the_length_are_scored(server, checkpoints):
    """To the last token; one more is too many, for a step whose rows may be longer as well."""
    policy = policy_of(checkpoints["tied"])
    assert server.limit == LENGTH
    ids = np.random.default_rng(0).integers(0, 200, LENGTH + 1)
    whole, short = server.score([ids[:-1].tolist()], [1], 0)[0][0], server.score([ids[:20].tolist()], [1], 0)[0][0]
    dist = policy.dist(Trajectory([ids[:1].tolist()], [torch.from_numpy(ids[1:-1])], torch.arange(1)))
    expected_N = dist.chunk(0, len(dist)).logp_NV.gather(-1, torch.from_numpy(ids[1:-1])[:, None])[:, 0]
    assert float((whole - expected_N).abs().max()) < 1e-4 and torch.allclose(short, whole[:19], atol=1e-4)
    teacher = EngineTeacher(lambda k: server, policy.tokenizer, Asks(sampled=True))
    teacher.start(LENGTH)
    says = rf"teacher_engine\.max_model_len: rows of up to {LENGTH + 1} tokens are to be scored, the engine takes {LENGTH}"
    with pytest.raises(UserError, match=says):
        teacher.start(LENGTH + 1)
    with pytest.raises(UserError, match=says):
        teacher.prepare(Trajectory([ids[:2].tolist()], [torch.from_numpy(ids[2:])], torch.arange(1)))


def test_a_model_that_does_not_load_is_one_line(checkpoints, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text('{"architectures": ["Nothing"], "model_type": "nothing"}')
    with pytest.raises(UserError, match=r"teacher_engine: vllm serve ended with status 1; its log: .*Error"):
        VllmServer(str(tmp_path / "model"), engine_options(), "float32", None, 0, tmp_path / "server.log")


def family(server) -> dict[str, list[int]]:
    """The pids of a server's processes, by name."""
    found: dict[str, list[int]] = {"server": [], "EngineCore": [], "Worker": []}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            _, group = stat.read_text().rpartition(")")[2].split()[1:3]
            words = (stat.parent / "cmdline").read_bytes()
            if int(group) == server.own.family.pid and words:
                name = next((n for n in found if f"VLLM::{n}".encode() in words), "server" if stat.parent.name == group else "")
                found.setdefault(name, []).append(int(stat.parent.name))
    return found


@pytest.mark.parametrize("who", ["server", "EngineCore"])
def test_one_of_our_own_that_dies_is_started_again(server, checkpoints, who):
    """Whichever of its processes dies: the same scores again, and nobody of the old one is left."""
    policy = policy_of(checkpoints["tied"])
    rows = prompts(3, policy.vocab)
    before, restarts, old = server.score(rows, [1] * 3, 2), server.restarts, family(server)
    assert old["server"] and old["EngineCore"], old
    os.kill(old[who][0], signal.SIGKILL)
    after = server.score(rows, [1] * 3, 2)
    assert server.restarts == restarts + 1
    left = [pid for pids in old.values() for pid in pids if Path(f"/proc/{pid}/cmdline").exists()]
    assert [pid for pid in left if Path(f"/proc/{pid}/cmdline").read_bytes()] == []  # empty: a zombie
    for one, same in zip(before, after, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))


def test_one_of_others_that_dies_ends_the_run(server, checkpoints):
    """The last test of this file: it stops the server."""
    policy = policy_of(checkpoints["tied"])
    other = attach(server, checkpoints["tied"], policy.tokenizer, url=f"{server.url}/v1/")
    started = time.monotonic()
    server.close()
    with pytest.raises(
        UserError, match=r"teacher_engine\.url http://127\.0\.0\.1:\d+: the server is gone .*run again to go on"
    ):
        other.score(prompts(1, policy.vocab), [1], 0)
    assert time.monotonic() - started < 60
