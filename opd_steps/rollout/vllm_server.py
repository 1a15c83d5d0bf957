"""A `vllm serve` on this machine, or one that runs already: asked over HTTP for the log-probs of given tokens."""

from __future__ import annotations

import http.client
import json
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from opd_steps.errors import UserError
from opd_steps.process.lifetime import until_stopped
from opd_steps.rollout.vllm_process import OwnServer

BATCH = 64  # rows in one request
PATIENCE = 600.0  # seconds without a byte of an answer; then the server counts as gone
RESTARTS = 2  # of a server of our own that ended, in one run
SAMPLE = "A line of text, 17 + 25 = 42; and so on."  # both tokenizers must read it alike
_GONE = (OSError, http.client.HTTPException)


class VllmServer:
    """The model `path` behind HTTP. `score` and `limit` are those of rollout.vllm_engine.

    options   graph.options.TeacherEngine
    scores    the largest k that will be asked for, -1 the whole vocabulary

    Raises UserError before the first request: a taken port, no answer in time, another model or tokenizer, a cap below `scores`.
    Later for a request that is refused, a server at `url` that is gone, or one of our own that ended RESTARTS + 1 times.
    """

    def __init__(self, path: str, options: dict, dtype: str, tokenizer: PreTrainedTokenizerBase, scores: int, log: Path):
        self.path, self.scores, self.restarts, self.own = path, scores, 0, None
        self.url = re.sub(r"/v1$", "", options["url"].rstrip("/"))  # clients of other kinds are given the address with it
        if not self.url:
            self.own = OwnServer(path, options, dtype, scores, log)
            self.url = self.own.start()
        self._check(tokenizer)

    def score(self, rows: Sequence[Sequence[int]], starts: Sequence[int], k: int) -> tuple[list[Tensor], ...]:
        """Raises lifetime.Stopped when the step is told to stop meanwhile, whatever the server does."""
        out: list[tuple[Tensor, Tensor, Tensor]] = []
        with until_stopped():
            for at in range(0, len(rows), BATCH):
                part = [list(row) for row in rows[at : at + BATCH]]
                choices = self._ask({"prompt": part, "prompt_logprobs": k})
                for row, start, choice in zip(part, starts[at : at + BATCH], choices, strict=True):
                    out.append(_of_dicts(choice["prompt_logprobs"][start:], row[start:], k))
        return tuple(list(column) for column in zip(*out, strict=True))

    def close(self) -> None:
        if self.own:
            self.own.end()

    def _check(self, tokenizer: PreTrainedTokenizerBase) -> None:
        where = "teacher_engine" + ("" if self.own else f".url {self.url}")
        nobody = "no vLLM server answers there; expected an address like http://host:8000"
        try:
            self.model = self._post("/v1/models")["data"][0]
            root, self.limit = self.model["root"], int(self.model["max_model_len"]) - 1  # see rollout.lengths
        except urllib.error.HTTPError as error:
            raise UserError(where, f"{nobody} (/v1/models: {error.code} {error.reason})") from None
        except (*_GONE, LookupError, TypeError, ValueError) as error:
            raise UserError(where, f"{nobody} ({type(error).__name__} {error})") from None
        if root != self.path:
            raise UserError(where, f"serves {root}, not the teacher {self.path}")
        try:
            if self.own is None:
                said = self._post("/tokenize", {"model": self.model["id"], "prompt": SAMPLE, "add_special_tokens": False})
                if said["tokens"] != tokenizer(SAMPLE, add_special_tokens=False)["input_ids"]:
                    raise UserError(where, "its tokenizer is not the teacher's: it reads a line of text as other tokens")
            self._post("/v1/completions", self._request({"prompt": [[0, 0]], "prompt_logprobs": self.scores}))
        except urllib.error.HTTPError as error:
            route = error.url.removeprefix(self.url)
            raise UserError(where, f"{route} refuses a request for {self.scores} log-probs a token: {_why(error)}") from None
        except (*_GONE, LookupError, TypeError, ValueError) as error:
            raise UserError(where, f"{nobody} ({type(error).__name__} {error})") from None

    def _request(self, asked: dict) -> dict:
        return {"model": self.model["id"], "max_tokens": 1, "temperature": 0.0, **asked}

    def _ask(self, asked: dict) -> list[dict]:
        """The answer's choices; a server of our own that has ended, or whose engine has, is started again."""
        while True:
            try:
                found = self._post("/v1/completions", self._request(asked))["choices"]
                return sorted(found, key=lambda choice: choice["index"])
            except urllib.error.HTTPError as error:
                if error.code < 500:
                    raise UserError(f"teacher_engine {self.url}", f"refuses to score: {_why(error)}") from None
                self._start_again(f"{error.code} {_why(error)}")
            except _GONE as error:
                self._start_again(f"{type(error).__name__} {error}")

    def _start_again(self, why: str) -> None:
        if self.own is None:
            raise UserError(f"teacher_engine.url {self.url}", f"the server is gone ({why}); with one there, run again to go on")
        if self.restarts == RESTARTS:
            said = f"the teacher's server ended {RESTARTS + 1} times ({why}); its log: {self.own.log}: {self.own.last_error()}"
            raise UserError("teacher_engine", said)
        self.restarts += 1
        print(f"the teacher's server is gone ({why}); starting it again", file=sys.stderr, flush=True)
        self.own.end()
        self.url = self.own.start()

    def _post(self, route: str, body: dict | None = None) -> dict:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + route, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
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
