"""`python -m opd_steps.rollout.vllm_serve`: vLLM's HTTP server, each of whose processes ends with the one that started it.

The server spawns an engine and the engine its workers, and a spawned process imports this module before it does anything else. vLLM itself
leaves the engine and the workers behind when the server is killed. A teacher's has a route more (rollout.vllm_scores); where weights
will be sent, each process knows how they come (rollout.vllm_transfer).
"""

from __future__ import annotations

import os
import runpy
import signal

from opd_steps.process.lifetime import end_with_parent

SERVER = "vllm.entrypoints.openai.api_server"  # the `vllm` command asks for a distribution of that name; CPU wheels are called otherwise
TAKES_WEIGHTS, GIVES_SCORES = "DISTILLERY_TAKES_WEIGHTS", "DISTILLERY_GIVES_SCORES"  # of the environment
TRANSFER = "distillery_files"
SCORES = "/distillery/scores"
_STARTER = "DISTILLERY_SERVER_PROCESS"

if __name__ == "__mp_main__":
    end_with_parent(signal.SIGKILL, int(os.environ[_STARTER]))
if __name__ in ("__main__", "__mp_main__"):
    os.environ[_STARTER] = str(os.getpid())
    if TAKES_WEIGHTS in os.environ:
        from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

        WeightTransferEngineFactory.register_engine(TRANSFER, "opd_steps.rollout.vllm_transfer", "Files")
if __name__ == "__main__":
    if GIVES_SCORES in os.environ:
        from opd_steps.rollout.vllm_scores import add

        add(SCORES)
    runpy.run_module(SERVER, run_name="__main__")
