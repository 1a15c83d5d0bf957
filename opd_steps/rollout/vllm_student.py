"""A `vllm serve` of the step's own that samples for the student: all ranks ask it, the first one sends the weights."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from opd_steps.errors import UserError
from opd_steps.process import devices, kv, ranks, spans
from opd_steps.rollout.lengths import longest
from opd_steps.rollout.stops import for_vllm
from opd_steps.rollout.threads import Threads
from opd_steps.rollout.vllm_cache import of_metrics
from opd_steps.rollout.vllm_link import PATIENCE, ROUTE, UNREACHABLE, Gone, Link
from opd_steps.rollout.vllm_process import OwnServer, healthy
from opd_steps.rollout.vllm_said import TOLERANCE, fixed_row, gap, require_agreement
from opd_steps.rollout.weights import in_files, whole

GLANCE = 1.0  # seconds between two looks at a server while it samples
FIXED = 136  # tokens of the sequence on which both are compared: more than a block of the cache has, on a CPU too


class VllmStudent(Link):
    """The model `path`, then whatever weights are sent. A Sampler (nouns.policy), of which `version` is the same on all ranks.

    options    graph.options.Engine
    ends       end tokens, each of which ends a row
    learns     whether weights will be sent (`sync`)
    stops      how many stop strings may be asked for
    listener   told of each row of this rank as it ends, (context, new ids), by another thread; None: nobody

    It dies? Then it is started again with the weights that it began with, and `generate` gives None. Raises UserError as Link does.
    """

    def __init__(
        self,
        path: str,
        options: dict,
        dtype: str,
        ends: Sequence[int],
        log: Path,
        learns: bool = False,
        stops: int = 0,
    ):
        self.dtype, self.ends, self.version, self.learns = getattr(torch, dtype), list(ends), 0, learns
        self.tolerance = TOLERANCE[dtype] if options["tolerance"] is None else options["tolerance"]
        self.threads = Threads(options["batch"] * max(1, devices.wanted(options) // options["tensor_parallel"]))
        self.listener: Callable[[Sequence[int], Tensor], None] | None = None
        self.begun: dict[tuple, Future] = {}
        own = OwnServer(path, options, dtype, 0, log, "engine", True, learns, stops)
        super().__init__("student", "engine", path, own)

    def generate(
        self,
        contexts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        *,
        max_new_tokens: int,
        temperature: float,
        top_p: float,
        top_k: int = 0,
        stop: Sequence[str] = (),
    ) -> tuple[list[Tensor], list[Tensor], list[bool]] | None:
        """As VllmEngine does; each rank asks for its share. None: the server died, and has the weights that it began with."""
        if (needed := longest(contexts) + max_new_tokens) > self.limit:
            what = f"a prompt and its answer may have {needed} tokens, the engine takes {self.limit}"
            raise UserError("engine.max_model_len", what)
        sampling = self._sampling(max_new_tokens, temperature, top_p, top_k, stop)

        def draw() -> list:
            rows = self._rows(contexts, seeds, sampling)
            return self._waited([self.begun.pop(key, None) or self.threads.do(row) for key, row in rows])

        rows, trouble = self.tried(draw)
        if not self.agreed(trouble):
            return None
        return tuple(list(column) for column in zip(*ranks.collect(rows), strict=True))

    def begin(self, contexts: Sequence[Sequence[int]], seeds: Sequence[int], **sampling: Any) -> None:
        """Sample these rows from now on; `generate` of the same ones waits for them. Those that were begun before are forgotten."""
        self.begun = {key: self.threads.do(row) for key, row in self._rows(contexts, seeds, self._sampling(**sampling))}

    def _rows(
        self, contexts: Sequence[Sequence[int]], seeds: Sequence[int], sampling: dict
    ) -> list[tuple[tuple, Callable[[], tuple[Tensor, Tensor, bool]]]]:
        """(what tells it from others, what samples it) for each row of this rank's share."""
        told = json.dumps(sampling)
        key = lambda i: (tuple(contexts[i]), seeds[i], told)
        return [(key(i), partial(self._row, contexts[i], seeds[i], sampling)) for i in ranks.share(len(contexts))]

    def _sampling(self, max_new_tokens: int, temperature: float, top_p: float, top_k: int, stop: Sequence[str] = ()) -> dict:
        found = {"max_tokens": max_new_tokens, "temperature": temperature, "top_p": top_p, "top_k": top_k}
        return found | {"stop_token_ids": self.ends, "ignore_eos": True} | for_vllm(stop)

    def sync(self, model: torch.nn.Module, version: int) -> None:
        """Take the weights of `model`, forget what the old ones computed, and compare both on one fixed sequence, as VllmEngine does.

        All ranks must call it, for a sharded model's weights are gathered one by one.
        """
        said = None
        while said is None:  # it died, and was started again
            self.version = None
            said = self._sent(model, version)
        require_agreement(gap(model, *said), self.tolerance, version)
        self.version = version

    def _sent(self, model: torch.nn.Module, version: int) -> tuple[list[int], list[float]] | None:
        """What it says of the fixed sequence with these weights; None: it has been started again."""
        trouble = self._on_first(lambda: self._take("/start_weight_update", version))
        # to the end, whatever the server says: other ranks gather with this one
        for path in in_files(whole(model, self.dtype)):
            file = {"update_info": {"path": path}}
            trouble = trouble or self._on_first(partial(self._take, "/update_weights", version, file))
        trouble = trouble or self._on_first(lambda: self._finish(version))
        said = None
        if not trouble and ranks.first():
            said, trouble = self.tried(lambda: self._says(fixed_row(min(FIXED, self.limit - 1), model)))
        return ranks.gather(said)[0] if self.agreed(trouble) else None

    def _on_first(self, do: Callable[[], object]) -> str:
        """What kept the first rank from it; "" on the others."""
        return self.tried(do)[1] if ranks.first() else ""

    def _finish(self, version: int) -> None:
        self._take("/finish_weight_update", version, {"weight_version": str(version)})
        self._take("/reset_prefix_cache", version)

    def _take(self, route: str, version: int, body: dict | None = None) -> None:
        try:
            self.asked(lambda: self.posted(route, body or {}))
        except Gone as error:
            if error.status and healthy(self.url):  # it lives, and does not want them
                raise UserError("engine", f"vLLM did not take the weights of step {version}: {error}") from None
            raise

    def _start(self) -> None:
        super()._start()
        self.version, self.begun, self.preempted = 0, {}, 0
        if self.learns:
            self.of_first(lambda: self.asked(lambda: self.post("/init_weight_transfer_engine", {"init_info": {}})))

    def _row(self, context: Sequence[int], seed: int, sampling: dict) -> tuple[Tensor, Tensor, bool]:
        with spans.engines.of("sample"):
            choice = self._choice(context, sampling | {"seed": seed % 2**63, "logprobs": 0})
        tokens = torch.tensor(choice["token_ids"])
        if self.listener:
            self.listener(context, tokens)
        return tokens, torch.tensor(choice["logprobs"]["token_logprobs"]), choice["finish_reason"] == "stop"

    def _says(self, ids: list[int]) -> tuple[list[int], list[float]]:
        """A row and its likeliest next token; the log-probs of all of them but the first."""
        scored = self._choice(ids, {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0})
        found = self._choice(ids, {"max_tokens": 1, "temperature": 0.0, "logprobs": 0, "ignore_eos": True})
        logp = [place[str(token)]["logprob"] for place, token in zip(scored["prompt_logprobs"][1:], ids[1:], strict=True)]
        return [*ids, *found["token_ids"]], [*logp, *found["logprobs"]["token_logprobs"]]

    def _choice(self, row: Sequence[int], more: dict) -> dict:
        asked = {"model": self.model["id"], "prompt": list(row), "return_token_ids": True, "return_tokens_as_token_ids": True}
        return self.asked(lambda: self.post(ROUTE, asked | more, patience=None))["choices"][0]

    def _look(self) -> None:
        """How full its cache is; the first rank asks, and goes on where nobody answers."""
        if not ranks.first():
            return
        try:
            share, preempted = of_metrics(self.posted("/metrics", patience=GLANCE).decode())
        except UNREACHABLE:
            return
        kv.sampling.see(share, preempted - self.preempted)
        self.preempted = preempted  # since this server began

    def _waited(self, rows: list[Future]) -> list:
        """Their outcomes. A row may take hours; a server that does not even say that it lives counts as gone after PATIENCE."""
        heard = time.monotonic()
        while (left := wait(rows, GLANCE, return_when="FIRST_EXCEPTION")).not_done:
            if any(row.exception() for row in left.done):
                break
            if healthy(self.url):
                heard = time.monotonic()
                self._look()
            elif time.monotonic() - heard >= PATIENCE:
                raise Gone(f"no answer in {PATIENCE:g} s")
        for row in left.done:
            row.result()  # which raises what kept it
        self._look()
        return [row.result() for row in rows]
