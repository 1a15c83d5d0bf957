"""lm-eval's `hf` backend around a loaded policy; tasks of our own are decoded by the policy's own sampler."""

from __future__ import annotations

from collections import Counter, defaultdict

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from opd_steps.models.lm_policy import LMPolicy
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
        """Completions in the order of `requests`; request i's seed is a function of (seed, task, document, repeat)."""
        others = [i for i, r in enumerate(requests) if r.task_name not in self.own]
        out = dict(zip(others, super().generate_until([requests[i] for i in others], disable_tqdm) if others else [], strict=True))
        repeat: Counter = Counter()
        alike = defaultdict(list)
        for i, request in enumerate(requests):
            if request.task_name in self.own:
                document = (request.task_name, request.doc_id)
                seed = derive(self.seed, "evaluate", *document, repeat[document])
                repeat[document] += 1
                options = request.args[1]
                alike[options["temperature"], options["max_gen_toks"]].append((i, request.args[0], seed))
        for (temperature, max_new_tokens), group in alike.items():
            picks, texts, seeds = zip(*group, strict=True)
            ids = {text: self.prompt_ids(text) for text in set(texts)}
            sampler = LMPolicy(
                self.model, self.tokenizer, temperature=temperature, max_new_tokens=max_new_tokens, batch=self.policy.batch
            )
            rows = sampler.rollout([ids[text] for text in texts], picks, seeds)
            out |= {i: completion_text(self.tokenizer, a.tolist()) for i, a in zip(picks, rows.actions, strict=True)}
        return [out[i] for i in range(len(requests))]

    def prompt_ids(self, text: str) -> list[int]:
        """Token ids of a rendered prompt: those of training, without anything that lm-eval would add."""
        return self.tokenizer.encode(text, add_special_tokens=False)
