"""lm-eval's `hf` backend around a loaded policy; tasks of our own are decoded by the policy's own sampler."""

from __future__ import annotations

from collections import Counter, defaultdict

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from opd_steps.models.lm_policy import LMPolicy
from opd_steps.models.tokenizers import encode
from opd_steps.seeds import derive
from opd_steps.tasks.render import completion_text


class PolicyLM(HFLM):
    """Built-in tasks go through `HFLM` unchanged. Tasks named in `own` see exactly the prompt ids of training and are sampled
    as in training: plain softmax over the tokenizer's vocabulary (HF's `generate` would add the checkpoint's top-k and top-p),
    each sample from its own seed, so that results depend on neither batch nor limit.
    """

    def __init__(self, policy: LMPolicy, seed: int, own: list[str], **options):
        super().__init__(pretrained=policy.model, tokenizer=policy.tokenizer, batch_size=policy.batch, **options)
        self.policy, self.seed, self.own = policy, seed, set(own)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Completions in the order of `requests`."""
        others = [i for i, r in enumerate(requests) if r.task_name not in self.own]
        texts = super().generate_until([requests[i] for i in others], disable_tqdm) if others else []
        out = dict(zip(others, texts, strict=True))
        groups = defaultdict(list)  # rows that are sampled alike
        for i, request in enumerate(requests):
            if i not in out:
                options = request.args[1]
                groups[options["temperature"], options["max_gen_toks"]].append(i)
        for (temperature, max_new_tokens), picks in groups.items():
            completions = self._sample([requests[i] for i in picks], temperature, max_new_tokens)
            out |= dict(zip(picks, completions, strict=True))
        return [out[i] for i in range(len(requests))]

    def _sample(self, requests: list[Instance], temperature: float, max_new_tokens: int) -> list[str]:
        """A request's seed is a function of (seed, task, document, repeat); lm-eval sends the repeats as equal requests."""
        repeat: Counter = Counter()
        seeds = []
        for request in requests:
            document = (request.task_name, request.doc_id)
            seeds.append(derive(self.seed, "evaluate", *document, repeat[document]))
            repeat[document] += 1
        prompts = [r.args[0] for r in requests]
        ids = {text: encode(self.tokenizer, text) for text in set(prompts)}
        sampling = {"temperature": temperature, "max_new_tokens": max_new_tokens, "batch": self.policy.batch}
        sampler = LMPolicy(self.model, self.tokenizer, **sampling)
        rows = sampler.rollout([ids[text] for text in prompts], range(len(prompts)), seeds)
        return [completion_text(self.tokenizer, actions.tolist()) for actions in rows.actions]
