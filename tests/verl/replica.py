"""A model of transformers as verl's rollout and teacher server: what stands for vLLM on a CPU."""

from __future__ import annotations

import os
from types import SimpleNamespace

import ray
import torch
from transformers import AutoModelForCausalLM
from verl.workers.rollout.base import BaseRollout
from verl.workers.rollout.replica import RolloutReplica, TokenOutput

from opd_steps.verl.scores import sampled_and_top


class Server:
    """No cache, one row at a time: for models of a few thousand weights."""

    def __init__(self, path: str):
        torch.set_num_threads(1)
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        self.draw, self.step = torch.Generator().manual_seed(0), 0

    @torch.no_grad()
    def _logp(self, ids: list[int]) -> torch.Tensor:
        return self.model(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(-1)

    async def generate(self, prompt_ids, sampling_params, request_id=None, **_) -> TokenOutput:
        prompt_ids = [int(i) for i in prompt_ids]
        if os.environ.get("TEST_BROKEN_SERVER") == str(self.step):
            raise ValueError("this server is broken")
        if "prompt_logprobs" in sampling_params:
            return self._scored(prompt_ids, sampling_params["prompt_logprobs"])
        ids, logps = [], []
        while len(ids) < sampling_params["max_tokens"] and not (ids and ids[-1] in sampling_params["stop_token_ids"]):
            logp_V = self._logp(prompt_ids + ids)[-1]
            ids.append(int(torch.multinomial(logp_V.exp(), 1, generator=self.draw)))
            logps.append(float(logp_V[ids[-1]]))
        return TokenOutput(token_ids=ids, log_probs=logps, stop_reason="completed", extra_fields={"global_steps": self.step})

    def _scored(self, ids: list[int], k: int) -> TokenOutput:
        """As vLLM gives it: the k likeliest and the one that stands there."""
        said: list = [None]
        for token, logp_V in zip(ids[1:], self._logp(ids), strict=False):
            order = logp_V.argsort(descending=True).tolist()
            named = dict.fromkeys([token, *order[:k]])
            said.append({i: SimpleNamespace(logprob=float(logp_V[i]), rank=order.index(i) + 1) for i in named})
        found, logps = sampled_and_top(said, ids, k)
        return TokenOutput(token_ids=[0], extra_fields={"global_steps": 0, "prompt_ids": found, "prompt_logprobs": logps})

    async def take(self, weights: dict, step: int) -> None:
        found = self.model.load_state_dict(weights, strict=False)
        if found.unexpected_keys or set(found.missing_keys) - {"lm_head.weight"}:  # which may be the embedding
            raise ValueError(f"other weights than the model's: {found}")
        self.step = step

    async def nothing(self, *_, **__) -> None: ...

    wake_up = sleep = clear_kv_cache = abort_all_requests = resume_generation = release_kv_cache = resume_kv_cache = nothing
    start_profile = stop_profile = nothing


class Replica(RolloutReplica):
    async def launch_servers(self) -> None:
        path = self.model_config.path
        name = f"cpu_{'teacher' if self.is_teacher_model else 'server'}_{self.replica_rank}"
        self._server_handle = ray.remote(num_cpus=0)(Server).options(name=name).remote(path)
        self.servers, self._server_address = [self._server_handle], name

    async def init_colocated(self, resource_pool) -> None:
        await self.launch_servers()


class Adapter(BaseRollout):
    """In a training worker: hands its weights to its server."""

    async def resume(self, tags) -> None: ...

    async def release(self) -> None: ...

    async def update_weights(self, weights, global_steps=None, **_) -> None:
        whole = {name: value.detach().clone() for name, value in weights}  # all ranks gather
        rank, size = int(os.environ["RANK"]), self.config.tensor_model_parallel_size
        if rank % size == 0:
            await ray.get_actor(f"cpu_server_{rank // size}").take.remote(whole, global_steps or 0)
