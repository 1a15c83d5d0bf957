"""verl's vLLM server, whose answers about given rows hold the sampled token's log-prob as well, and which ends the run when it fails.

Imported by the server's own process.
"""

from __future__ import annotations

from typing import Any

import ray
from verl.workers.rollout.vllm_rollout import vllm_async_server

from opd_steps.verl.scores import sampled_and_top


def _extract(output: Any, num_prompt_logprobs: int | None, result_dict: dict[str, list]) -> None:
    """In place of verl's, which drops the sampled token where it is not one of the k likeliest."""
    if num_prompt_logprobs is not None:
        found = sampled_and_top(output.prompt_logprobs, output.prompt_token_ids, num_prompt_logprobs)
        result_dict["prompt_ids"], result_dict["prompt_logprobs"] = found


vllm_async_server.extract_prompt_logprobs = _extract


class Server(vllm_async_server.vLLMHttpServer):
    """Its process imports this module, and with it the line above."""

    async def collective_rpc(self, *args, **more) -> None:
        try:
            await super().collective_rpc(*args, **more)
        except Exception:
            for worker in self.workers:  # they send weights, and would wait for ever for who takes them
                ray.kill(worker)
            raise
