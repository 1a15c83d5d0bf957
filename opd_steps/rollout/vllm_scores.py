"""A route of our own servers, which answers with log-probs of given rows as bytes: vLLM's JSON of a top k is many times as large and slow."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import torch
from fastapi import Request, Response
from safetensors.torch import save
from vllm import SamplingParams, TokensPrompt
from vllm.entrypoints.launchers import app as launched

from opd_steps.rollout.vllm_said import of_flat


async def scores(request: Request) -> Response:
    """{rows, starts, k} -> safetensors of all rows' places one behind the other: logp [N], ids [N, k], best [N, k] (VllmEngine.score)."""
    asked, engine = await request.json(), request.app.state.engine_client
    params = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=asked["k"], flat_logprobs=True, detokenize=False)

    async def of(row: list[int], start: int) -> tuple[torch.Tensor, ...]:
        async for found in engine.generate(TokensPrompt(prompt_token_ids=row), params, uuid4().hex):
            last = found
        return of_flat(last.prompt_logprobs, start)

    found = await asyncio.gather(*map(of, asked["rows"], asked["starts"]))
    logp_N, ids_NK, best_NK = (torch.cat(column) for column in zip(*found, strict=True))
    return Response(save({"logp": logp_N, "ids": ids_NK.int(), "best": best_NK}), media_type="application/octet-stream")


def add(route: str) -> None:
    """Have the server that this process starts know the route by that name."""
    known = launched.register_api_routers

    def register(args, app, *more) -> None:
        known(args, app, *more)
        app.add_api_route(route, scores, methods=["POST"])

    launched.register_api_routers = register
