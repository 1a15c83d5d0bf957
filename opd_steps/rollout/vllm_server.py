"""A `vllm serve` on this machine, or one that runs already: asked over HTTP for the log-probs of given tokens."""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from opd_steps.errors import UserError
from opd_steps.lifetime import end_with_parent
from opd_steps.rollout.vllm_engine import SETTINGS, on_chip

BATCH = 64  # rows in one request
RESTARTS = 2  # of a server of our own that ended, in one run
SAMPLE = "A line of text, 17 + 25 = 42; and so on."  # both tokenizers must read it alike
_MODULE = "vllm.entrypoints.openai.api_server"  # the `vllm` command asks for a distribution of that name; CPU wheels are called otherwise


class VllmServer:
    """The model `path` behind HTTP. `score` is that of rollout.vllm_engine.

    options   config.kinds.TeacherEngine
    scores    the largest k that will be asked for, -1 the whole vocabulary

    Raises UserError before the first request: a taken port, no answer in time, another model or tokenizer, a cap below `scores`.
    """

    def __init__(self, path: str, options: dict, dtype: str, tokenizer: PreTrainedTokenizerBase, scores: int, log: Path):
        self.path, self.options, self.dtype, self.scores, self.log = path, options, dtype, scores, log
        self.url, self.process, self.restarts = options["url"].rstrip("/"), None, 0
        if not self.url:
            self._start()
        self._check(tokenizer)

    def score(self, rows: Sequence[Sequence[int]], starts: Sequence[int], k: int) -> tuple[list[Tensor], ...]:
        out: list[tuple[Tensor, Tensor, Tensor]] = []
        for at in range(0, len(rows), BATCH):
            part = [list(row) for row in rows[at : at + BATCH]]
            choices = self._ask({"prompt": part, "prompt_logprobs": k})
            for row, start, choice in zip(part, starts[at : at + BATCH], choices, strict=True):
                out.append(_of_dicts(choice["prompt_logprobs"][start:], row[start:], k))
        return tuple(list(column) for column in zip(*out, strict=True))

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()

    def _start(self) -> None:
        if not (port := self.options["port"]):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
        else:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    raise UserError("teacher_engine.port", f"port {port} is in use by another program; 0 takes a free one")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command(port),
                stdout=log,
                stderr=log,
                env=SETTINGS | os.environ,
                start_new_session=True,
                preexec_fn=lambda: end_with_parent(signal.SIGTERM),
            )
        atexit.register(self.close)
        self.url = f"http://127.0.0.1:{port}"
        end = time.monotonic() + self.options["start_timeout"]
        while not self._healthy():
            if self.process.poll() is not None or time.monotonic() > end:
                self.close()
                why = f"ended with status {self.process.returncode}" if time.monotonic() <= end else "did not answer in time"
                raise UserError("teacher_engine", f"vllm serve {why}; its log: {self.log}: {_last_error(self.log)}")
            time.sleep(0.5)

    def _command(self, port: int) -> list[str]:
        options = self.options
        asked = on_chip(not torch.cuda.is_available(), options["kv_cache_mb"], options["eager"]) | {
            "model": self.path,
            "host": "127.0.0.1",
            "port": port,
            "dtype": self.dtype,
            "max_logprobs": self.scores,
            "max_num_seqs": options["batch"],
            "tensor_parallel_size": options["tensor_parallel"],
            "gpu_memory_utilization": options["memory"],
            "max_model_len": options["max_model_len"] or None,
            "seed": 0,
            "skip_tokenizer_init": True,  # it sees token ids alone
        }
        command = [sys.executable, "-m", _MODULE]
        for name, value in asked.items():
            if value is not None and value is not False:
                command += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
        return command

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def _check(self, tokenizer: PreTrainedTokenizerBase) -> None:
        where = f"teacher_engine.url {self.url}"
        try:
            self.model = self._post("/v1/models")["data"][0]
            if self.model["root"] != self.path:
                raise UserError(where, f"serves {self.model['root']}, not the teacher {self.path}")
            if self.process is None:
                said = self._post("/tokenize", {"model": self.model["id"], "prompt": SAMPLE, "add_special_tokens": False})[
                    "tokens"
                ]
                if said != tokenizer(SAMPLE, add_special_tokens=False)["input_ids"]:
                    raise UserError(where, "its tokenizer is not the teacher's: it reads a line of text as other tokens")
            self._post("/v1/completions", self._request({"prompt": [[0, 0]], "prompt_logprobs": self.scores}))
        except urllib.error.HTTPError as error:
            raise UserError(where, f"refuses a request for {self.scores} log-probs a token: {_why(error)}") from None
        except (OSError, KeyError, IndexError, ValueError) as error:
            raise UserError(where, f"no vLLM server answers there: {type(error).__name__} {error}") from None

    def _request(self, asked: dict) -> dict:
        return {"model": self.model["id"], "max_tokens": 1, "temperature": 0.0, **asked}

    def _ask(self, asked: dict) -> list[dict]:
        """The answer's choices; a server of our own that has ended is started again."""
        while True:
            try:
                found = self._post("/v1/completions", self._request(asked))["choices"]
                return sorted(found, key=lambda choice: choice["index"])
            except urllib.error.HTTPError as error:
                raise RuntimeError(f"{self.url} refuses to score: {_why(error)}") from None
            except OSError as error:
                if self.process is None or self.restarts == RESTARTS:
                    raise RuntimeError(f"the teacher's server {self.url} is gone ({error}); its log: {self.log}") from None
                self.restarts += 1
                print(f"the teacher's server is gone ({error}); starting it again", file=sys.stderr, flush=True)
                self.close()
                self._start()

    def _post(self, route: str, body: dict | None = None) -> dict:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + route, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.load(answer)


def _of_dicts(places: list[dict], actions: Sequence[int], k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of one row's answer: per position {token id: {logprob, rank}}, with the token itself even where it is not likely."""
    own = [place[str(token)]["logprob"] for place, token in zip(places, actions, strict=True)]
    best = [sorted(place.items(), key=lambda item: item[1]["rank"])[: None if k < 0 else k] for place in places]
    ids = torch.tensor([[int(token) for token, _ in place] for place in best], dtype=torch.long)
    logp = torch.tensor([[entry["logprob"] for _, entry in place] for place in best])
    return torch.tensor(own), ids, logp


def _why(error: urllib.error.HTTPError) -> str:
    try:
        return json.load(error)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return str(error)


def _last_error(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if "Error" in line]
    return lines[-1] if lines else "no error in it"
