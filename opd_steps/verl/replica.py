"""vLLM as verl starts it, but for what it says of given rows: the token that stands there beside the k likeliest (verl.scores).

Registered under vLLM's own name, so that a configuration needs no other; loaded only where verl asks for it.
"""

from __future__ import annotations

from verl.workers.rollout.replica import RolloutReplicaRegistry


def _with_sampled() -> type:
    import ray
    from verl.workers.rollout.vllm_rollout import vllm_async_server

    from opd_steps.verl.vllm_server import Server

    class Replica(vllm_async_server.vLLMReplica):
        def __init__(self, *args, **more):
            super().__init__(*args, **more)
            self.server_class = ray.remote(Server)

    return Replica


if RolloutReplicaRegistry._registry["vllm"].__module__.startswith("verl."):  # else a test has put its own there
    RolloutReplicaRegistry.register("vllm", _with_sampled)
