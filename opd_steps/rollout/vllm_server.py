"""A `vllm serve` on this machine, or one that runs already: asked over HTTP for the log-probs of given tokens."""

from __future__ import annotations

import urllib.error
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

import torch
from safetensors.torch import load
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from opd_steps.errors import UserError
from opd_steps.process import ranks, spans
from opd_steps.rollout.threads import Threads
from opd_steps.rollout.vllm_link import ROUTE, UNREACHABLE, Link, why
from opd_steps.rollout.vllm_process import OwnServer
from opd_steps.rollout.vllm_serve import SCORES

BATCH = 64  # rows in one request
SAMPLE = "A line of text, 17 + 25 = 42; and so on."  # both tokenizers must read it alike


class VllmServer(Link):
    """The model `path` behind HTTP. `score` and `limit` are those of rollout.vllm_engine.

    options   graph.options.TeacherEngine
    scores    the largest k that will be asked for, -1 the whole vocabulary

    Raises UserError before the first request: a taken port, no answer in time, another model or tokenizer, a cap below `scores`.
    Later for a request that is refused, a server at `url` that is gone, or one of our own that ended RESTARTS + 1 times.
    """

    def __init__(
        self,
        path: str,
        options: dict,
        dtype: str,
        tokenizer: PreTrainedTokenizerBase,
        scores: int,
        log: Path,
        key: str = "teacher_engine",
    ):
        self.early: dict[tuple[tuple[int, ...], int], Future] = {}
        self.threads = Threads(BATCH)
        own = None if options["url"] else OwnServer(path, options, dtype, scores, log, key)
        super().__init__("teacher", key, path, own, options["url"])
        self._check(tokenizer, scores)

    def score(self, rows: Sequence[Sequence[int]], starts: Sequence[int], k: int) -> tuple[list[Tensor], ...]:
        """Each rank asks for its share. Raises lifetime.Stopped when the step is told to stop meanwhile, whatever the server does."""
        mine, found = list(ranks.share(len(rows))), {}

        def ask() -> None:
            for i in mine:
                if i not in found and (early := self.early.get((tuple(rows[i]), starts[i]))):
                    found[i] = early.result()
            while left := [i for i in mine if i not in found][:BATCH]:
                scored = self._scored([list(rows[i]) for i in left], [starts[i] for i in left], k)
                found.update(zip(left, scored, strict=True))

        while not self.agreed(self.tried(ask)[1]):
            self.early.clear()  # what is left is asked again
        self.early.clear()
        return tuple(list(column) for column in zip(*ranks.collect([found[i] for i in mine]), strict=True))

    def ahead(self, row: list[int], start: int, k: int) -> None:
        """Ask for what `score` will be asked for, and do not wait. From any thread."""
        if (key := (tuple(row), start)) not in self.early:
            self.early[key] = self.threads.do(lambda: self._scored([row], [start], k)[0])

    def _scored(self, rows: list[list[int]], starts: list[int], k: int) -> list[tuple[Tensor, Tensor, Tensor]]:
        with spans.engines.of("score"):
            return (self._as_bytes if self.own else self._as_json)(rows, starts, k)

    def _as_json(self, rows: list[list[int]], starts: list[int], k: int) -> list[tuple[Tensor, Tensor, Tensor]]:
        found = self.asked(lambda: self.post(ROUTE, self._request(rows, k)))["choices"]
        choices = sorted(found, key=lambda choice: choice["index"])
        return [
            _of_dicts(choice["prompt_logprobs"][start:], row[start:], k)
            for row, start, choice in zip(rows, starts, choices, strict=True)
        ]

    def _as_bytes(self, rows: list[list[int]], starts: list[int], k: int) -> list[tuple[Tensor, Tensor, Tensor]]:
        found = load(self.asked(lambda: self.posted(SCORES, {"rows": rows, "starts": starts, "k": k})))
        lengths = [len(row) - start for row, start in zip(rows, starts, strict=True)]
        columns = (found["logp"], found["ids"].long(), found["best"])
        parts = (
            [part.clone() for part in column.split(lengths)] for column in columns
        )  # a view is sent to other ranks with all that it is of
        return list(zip(*parts, strict=True))

    def _check(self, tokenizer: PreTrainedTokenizerBase, scores: int) -> None:
        try:
            if self.own is None:
                said = self.post("/tokenize", {"model": self.model["id"], "prompt": SAMPLE, "add_special_tokens": False})
                if said["tokens"] != tokenizer(SAMPLE, add_special_tokens=False)["input_ids"]:
                    raise UserError(self.where, "its tokenizer is not the teacher's: it reads a line of text as other tokens")
            self.post(ROUTE, self._request([[0, 0]], scores))
        except urllib.error.HTTPError as error:
            route = error.url.removeprefix(self.url)
            raise UserError(self.where, f"{route} refuses a request for {scores} log-probs a token: {why(error)}") from None
        except (*UNREACHABLE, LookupError, TypeError, ValueError) as error:
            raise UserError(self.where, f"no vLLM server answers there ({type(error).__name__} {error})") from None

    def _request(self, rows: list[list[int]], k: int) -> dict:
        return {"model": self.model["id"], "max_tokens": 1, "temperature": 0.0, "prompt": rows, "prompt_logprobs": k}


def _of_dicts(places: list[dict], actions: Sequence[int], k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of one row's answer: per position {token id: {logprob, rank}}, with the token itself even where it is not likely."""
    own = [place[str(token)]["logprob"] for place, token in zip(places, actions, strict=True)]
    best = [sorted(place.items(), key=lambda item: item[1]["rank"])[: None if k < 0 else k] for place in places]
    ids = torch.tensor([[int(token) for token, _ in place] for place in best], dtype=torch.long)
    logp = torch.tensor([[entry["logprob"] for _, entry in place] for place in best])
    return torch.tensor(own), ids, logp
