"""A real `vllm serve` on loopback as the teacher: its scores, its death, and servers that are the wrong ones."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from opd_steps.errors import UserError
from opd_steps.models.checkpoint import where
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.rollout.vllm_server import VllmServer
from tests.vllm.conftest import engine_options, policy_of, prompts

CAP = 20


class Foreign(VllmServer):
    """As somebody else starts one: it knows its tokenizer."""

    def _command(self, port: int) -> list[str]:
        return [part for part in super()._command(port) if part != "--skip-tokenizer-init"]


@pytest.fixture(scope="module")
def server(checkpoints, tmp_path_factory):
    policy = policy_of(checkpoints["tied"])
    log = tmp_path_factory.mktemp("server") / "server.log"
    found = Foreign(where(checkpoints["tied"]), engine_options(), "float32", policy.tokenizer, CAP, log)
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


def attach(server, checkpoint: Path, tokenizer, scores: int = CAP, **changes) -> VllmServer:
    options = engine_options(name="server", **({"url": server.url} | changes))
    return VllmServer(where(checkpoint), options, "float32", tokenizer, scores, server.log)


def test_one_that_runs_already_is_used(server, checkpoints):
    policy = policy_of(checkpoints["tied"])
    other = attach(server, checkpoints["tied"], policy.tokenizer)
    assert other.process is None
    rows = prompts(3, policy.vocab)
    for one, same in zip(server.score(rows, [1] * 3, 2), other.score(rows, [1] * 3, 2), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    other.close()
    assert server._healthy()  # not ours to stop


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


def test_something_else_behind_the_url(server, checkpoints):
    class Other(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"hello": "world"}).encode())

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        with pytest.raises(UserError, match="no vLLM server answers there"):
            attach(server, checkpoints["tied"], None, url=f"http://127.0.0.1:{other.server_port}")
        other.shutdown()


def test_a_model_that_does_not_load_is_one_line(checkpoints, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text('{"architectures": ["Nothing"], "model_type": "nothing"}')
    with pytest.raises(UserError, match=r"teacher_engine: vllm serve ended with status 1; its log: .*Error"):
        VllmServer(str(tmp_path / "model"), engine_options(), "float32", None, 0, tmp_path / "server.log")


def test_one_of_our_own_that_dies_is_started_again(server, checkpoints):
    policy = policy_of(checkpoints["tied"])
    rows = prompts(3, policy.vocab)
    before = server.score(rows, [1] * 3, 2)
    os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait()
    after = server.score(rows, [1] * 3, 2)
    assert server.restarts == 1
    for one, same in zip(before, after, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))


def test_one_of_others_that_dies_ends_the_run(server, checkpoints):
    """The last test of this file: it stops the server."""
    policy = policy_of(checkpoints["tied"])
    other = attach(server, checkpoints["tied"], policy.tokenizer)
    started = time.monotonic()
    server.close()
    with pytest.raises(RuntimeError, match=r"the teacher's server http://127\.0\.0\.1:\d+ is gone"):
        other.score(prompts(1, policy.vocab), [1], 0)
    assert time.monotonic() - started < 60
