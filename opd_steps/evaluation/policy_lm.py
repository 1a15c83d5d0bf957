"""lm-eval's `hf` backend around a loaded policy; tasks of our own are decoded by the policy's own sampler."""

from __future__ import annotations

from lm_eval.models.huggingface import HFLM

from opd_steps.evaluation.own_tasks import OwnTasks, bos_rule
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.tasks.pool import PromptPool


class PolicyLM(OwnTasks, HFLM):
    """Tasks in `own` are sampled as in training: plain softmax over the tokenizer's vocabulary (HF's `generate` would add the
    checkpoint's top-k and top-p), each sample from its own seed, so that results depend on neither batch nor limit.
    """

    def __init__(self, policy: LMPolicy, seed: int, own: dict[str, PromptPool], **options):
        options = {"add_bos_token": bos_rule(own), **options}
        super().__init__(pretrained=policy.model, tokenizer=policy.tokenizer, batch_size=policy.batch, **options)
        self.policy, self.seed, self.own, self.ends = policy, seed, own, policy.ends
        self.stop = policy.stops.strings if policy.stops else ()
        self.model.generation_config.eos_token_id = list(policy.ends)  # `generate` on built-in tasks

    def sample(
        self, contexts: list[list[int]], seeds: list[int], temperature: float, top_p: float, max_new_tokens: int
    ) -> tuple[list[list[int]], list[bool]]:
        sampling = {"temperature": temperature, "top_p": top_p, "max_new_tokens": max_new_tokens, "batch": self.policy.batch}
        sampling |= {"stop": self.stop}
        rows = LMPolicy(self.model, self.tokenizer, **sampling).rollout(contexts, range(len(contexts)), seeds)
        return [actions.tolist() for actions in rows.actions], rows.ended_B.tolist()
