"""A server of ours that does not take the weights that its workers send; run in verl's environment: python -m tests.verl.broken_server.

Prints what was killed, and what was raised.
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from opd_steps.evaluation.vllm_lm import named_vllm

with named_vllm():  # verl asks for its version
    from opd_steps.verl import vllm_server


async def fails(self, *args, **more) -> None:
    raise ValueError("no room for them")


def main() -> None:
    killed: list[str] = []
    vllm_server.ray = SimpleNamespace(kill=killed.append)
    vllm_server.vllm_async_server.vLLMHttpServer.collective_rpc = fails
    server = object.__new__(vllm_server.Server)
    server.workers = ["first", "second"]
    try:
        asyncio.run(server.collective_rpc(method="update_weights_from_ipc"))
    except ValueError as error:
        print(*killed, error)


if __name__ == "__main__":
    main()
