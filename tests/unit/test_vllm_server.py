"""The HTTP side of a teacher's server, against servers that are no vLLM: what is asked, what is refused, what is given up."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from safetensors.torch import save

from opd_steps.config.merge import merge
from opd_steps.errors import UserError
from opd_steps.graph.checks.engines import check_engine
from opd_steps.graph.options import TeacherEngine
from opd_steps.process import lifetime
from opd_steps.process.lifetime import StopFlag, Stopped
from opd_steps.rollout import vllm_server
from opd_steps.rollout.vllm_link import RESTARTS
from opd_steps.rollout.vllm_server import VllmServer

MODEL = {"data": [{"id": "teacher", "root": "/models/teacher", "max_model_len": 23}]}


def scored(asked: dict) -> dict:
    """An answer to /v1/completions: the log-prob of each token is minus its id."""
    places = lambda row: [None, *({str(t): {"logprob": -float(t), "rank": 1}} for t in row[1:])]
    return {"choices": [{"index": i, "prompt_logprobs": places(row)} for i, row in enumerate(asked["prompt"])]}


def in_bytes(asked: dict) -> bytes:
    """The same of our own servers' route."""
    logp = torch.tensor([-float(t) for row, start in zip(asked["rows"], asked["starts"], strict=True) for t in row[start:]])
    none = torch.zeros(len(logp), 0)
    return save({"logp": logp, "ids": none.int(), "best": none})


@contextmanager
def serving(**answers):
    """A server whose routes answer as told: JSON, bytes, a status, or a function of the request that returns either; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.do_POST()

        def do_POST(self):
            length = int(self.headers.get("Content-Length", 0))
            asked = json.loads(self.rfile.read(length)) if length else {}
            found = answers.get(self.path.rsplit("/", 1)[1], 404)
            found = found(asked) if callable(found) else found
            if found is None:  # it dies
                return self.connection.close()
            status, body = (found, {"error": {"message": "said so"}}) if isinstance(found, int) else (200, found)
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def tokenizer(text: str, **_) -> dict:
    return {"input_ids": [1, 2]}


GOOD = {"models": MODEL, "tokenize": {"tokens": [1, 2]}, "completions": scored, "scores": in_bytes}


def attached(url: str) -> VllmServer:
    return VllmServer("/models/teacher", {"url": url}, "float32", tokenizer, 0, None)


@pytest.mark.parametrize("tail", ["", "/", "/v1", "/v1/"])
def test_the_address_with_and_without_v1(tail):
    with serving(**GOOD) as url:
        found = attached(url + tail)
        logp, *_ = found.score([[5, 6, 7], [5, 8]], [1, 1], 0)
    assert [row.tolist() for row in logp] == [[-6, -7], [-8]]
    assert found.limit == 22


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("http://host:8000", True),
        ("https://host/prefix/v1", True),
        ("http://[::1]:8000", True),
        ("host:8000", False),
        ("http://", False),
        ("http://host:eight", False),
        ("http://host:99999", False),
        ("ftp://host", False),
        ("http://host:8000/v1?key=1", False),
        ("8000", False),
    ],
)
def test_addresses_are_checked_with_the_config(url, good):
    engine = merge(TeacherEngine, {"name": "server", "url": url}, "p.yaml.nodes.opd.teacher_engine")
    if good:
        return check_engine(engine, "p.yaml.nodes.opd.teacher_engine")
    with pytest.raises(
        UserError, match=r"p\.yaml: nodes\.opd\.teacher_engine\.url: expected an address like http://host:8000, found"
    ):
        check_engine(engine, "p.yaml.nodes.opd.teacher_engine")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"models": 404},
            r"no vLLM server answers there; expected an address like http://host:8000 \(/v1/models: 404 Not Found\)",
        ),
        ({"models": {"hello": "world"}}, "no vLLM server answers there"),
        ({"models": []}, "no vLLM server answers there"),
        ({"models": {"data": [None]}}, "no vLLM server answers there"),
        (
            {"models": {"data": [MODEL["data"][0] | {"root": "/models/other"}]}},
            "serves /models/other, not the teacher /models/teacher",
        ),
        ({"models": lambda _: None}, "no vLLM server answers there"),
        ({"tokenize": {"tokens": [3]}}, "its tokenizer is not the teacher's"),
        ({"tokenize": 404}, "/tokenize refuses a request for 0 log-probs a token: said so"),
        ({"completions": 400}, "/v1/completions refuses a request for 0 log-probs a token: said so"),
    ],
)
def test_wrong_ones_are_one_line_before_the_first_request(changes, says):
    with serving(**GOOD | changes) as url, pytest.raises(UserError, match=says) as caught:
        attached(url)
    assert str(caught.value).startswith(f"teacher_engine.url {url}: ")


class Own:
    """In the place of vllm_process.OwnServer."""

    def __init__(self, url, log):
        self.url, self.log, self.starts, self.ends = url, log, 0, 0

    def start(self):
        self.starts += 1
        return self.url

    def end(self):
        self.ends += 1

    def last_error(self):
        return "EngineDeadError"


def owned(monkeypatch, url: str) -> VllmServer:
    monkeypatch.setattr(vllm_server, "OwnServer", lambda path, options, dtype, scores, log, key: Own(url, log))
    return VllmServer("/models/teacher", {"url": ""}, "float32", tokenizer, 0, "server.log")


@pytest.mark.parametrize("death", [500, 503, None])
def test_one_of_our_own_whose_engine_died_is_started_again(monkeypatch, death):
    """Whether it says so (500), or dies while it answers."""
    left = []

    def scores(asked):
        return left.pop() if left else in_bytes(asked)

    with serving(**GOOD | {"scores": scores}) as url:
        server = owned(monkeypatch, url)
        for restarts in range(1, RESTARTS + 1):
            left.append(death)
            assert server.score([[5, 6]], [1], 0)[0][0].tolist() == [-6]
            assert (server.own.starts, server.own.ends) == (restarts + 1, restarts)
        left.append(death)
        with pytest.raises(
            UserError, match=r"teacher_engine: the teacher's server ended 3 times \(.*\); its log: server.log: Engine"
        ):
            server.score([[5, 6]], [1], 0)


def test_a_refusal_is_no_death(monkeypatch):
    found = [in_bytes]
    with serving(**GOOD | {"scores": lambda asked: found[0](asked)}) as url:
        server = owned(monkeypatch, url)
        found[0] = lambda asked: 400
        with pytest.raises(UserError, match="refuses a request: said so"):
            server.score([[5, 6]], [1], 0)
    assert server.own.starts == 1


@pytest.mark.parametrize("death", [500, None])
def test_one_at_an_address_that_dies_ends_the_run(death):
    found = [scored]
    with serving(**GOOD | {"completions": lambda asked: found[0](asked)}) as url:
        server = attached(url)
        found[0] = lambda asked: death
        with pytest.raises(UserError, match=r"the server is gone \(.*\); with one there, run again to go on") as caught:
            server.score([[5, 6]], [1], 0)
    assert "log" not in str(caught.value)  # it has none that we know


@pytest.fixture
def flag(monkeypatch):
    """A training's, put back afterwards."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    monkeypatch.setattr(lifetime, "_flag", None)
    yield StopFlag()
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_sigterm_gives_up_a_request_that_hangs(flag, when):
    hangs, over = [], threading.Event()

    def completions(asked):
        if hangs:
            over.wait(60)
        return scored(asked)

    with serving(**GOOD | {"completions": completions}) as url:
        server = attached(url)
        hangs.append(True)
        term = lambda: os.kill(os.getpid(), signal.SIGTERM)
        term() if when == "before" else threading.Timer(0.5, term).start()
        begun = time.monotonic()
        with pytest.raises(Stopped):
            server.score([[5, 6]], [1], 0)
        assert time.monotonic() - begun < 5 and flag.wanted == signal.SIGTERM
        over.set()
    assert torch.is_grad_enabled()
