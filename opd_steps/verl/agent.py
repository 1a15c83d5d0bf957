"""How verl answers a prompt for us: our token ids, to our end tokens; what goes wrong is written where the trainer looks for it."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import ray
from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopMetrics, AgentLoopOutput, register
from verl.trainer.ppo.v1 import agent_loop_tq

# Ray allows no subclass of an actor's class; this is the class that it was made of
_PLAIN_WORKER = agent_loop_tq.AgentLoopWorkerTQ.__ray_metadata__.modified_class


@register("distillery")
class Answer(AgentLoopBase):
    """One answer to a prompt that was rendered beforehand. Nobody judges it here: the trainer judges whole groups, as local training does."""

    def __init__(self, trainer_config, server_manager, **_):
        # not verl's own: that one renders prompts, and refuses tokenizers that cannot
        self.config, self.server_manager = trainer_config.config, server_manager

    async def run(self, sampling_params: dict, **row) -> AgentLoopOutput:
        ours, prompt = self.config.distillery, [int(token) for token in row["extra_info"]["prompt_ids"]]
        how = sampling_params | {"max_tokens": int(ours.window), "stop_token_ids": list(ours.ends)}
        said = await self.server_manager.generate(request_id=uuid4().hex, prompt_ids=prompt, sampling_params=how)
        if not said.token_ids or said.log_probs is None:
            raise RuntimeError(
                f"the server gave {len(said.token_ids)} tokens of an answer ({said.stop_reason}), log-probs: {said.log_probs}"
            )
        return AgentLoopOutput(
            prompt_ids=prompt,
            response_ids=list(said.token_ids),
            response_mask=[1] * len(said.token_ids),
            response_logprobs=list(said.log_probs),
            reward_score=0.0,
            num_turns=2,
            metrics=AgentLoopMetrics(),
            extra_fields=said.extra_fields | {"reward_extra_info": {}},
        )


class Worker(_PLAIN_WORKER):
    """verl logs what goes wrong with a row, and waits for it for ever; this one also writes it down."""

    async def _run_agent_loop(self, *args, **more):
        try:
            return await super()._run_agent_loop(*args, **more)
        except Exception as error:
            with Path(self.config.distillery.work, "errors").open("a") as file:
                file.write(f"{type(error).__name__}: {' '.join(str(error).split())}\n")
            raise


class Manager(agent_loop_tq.AgentLoopManagerTQ):
    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        self.agent_loop_workers_class = ray.remote(Worker)
