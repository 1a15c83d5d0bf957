"""lm-eval on our own splits: prompts, end tokens and seeds are those of training, whichever backend samples."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from lm_eval.api.instance import Instance

from opd_steps.rollout.stops import before
from opd_steps.seeds import derive
from opd_steps.tasks.chat import chat_text
from opd_steps.tasks.pool import PromptPool
from opd_steps.tasks.render import completion_text, judged_text


class OwnTasks:
    """In front of a backend class of lm-eval. Tasks named in `own` see exactly the prompt ids of training: lm-eval's own text of
    them is not read. Built-in tasks go through the backend, with the system message of the data, be it empty.

    own    pool by task name
    ends   end tokens, each of which ends a row
    stop   strings that end a row of these tasks; its text is what stands before
    """

    own: dict[str, PromptPool]
    seed: int
    ends: tuple[int, ...]
    stop: Sequence[str] = ()

    def sample(
        self, contexts: list[list[int]], seeds: list[int], temperature: float, top_p: float, max_new_tokens: int
    ) -> tuple[list[list[int]], list[bool]]:
        """New ids of each row, end token included, and whether it ended by itself."""
        raise NotImplementedError

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Completions in the order of `requests`."""
        others = [i for i, r in enumerate(requests) if r.task_name not in self.own]
        texts = super().generate_until([requests[i] for i in others], disable_tqdm) if others else []
        out = dict(zip(others, texts, strict=True))
        groups = defaultdict(list)  # rows that are sampled alike
        for i, request in enumerate(requests):
            if i not in out:
                options = request.args[1]
                groups[options["temperature"], options.get("top_p", 1.0), options["max_gen_toks"]].append(i)
        for sampling, picks in groups.items():
            completions = self._completions([requests[i] for i in picks], *sampling)
            out |= dict(zip(picks, completions, strict=True))
        return [out[i] for i in range(len(requests))]

    def _completions(self, requests: list[Instance], temperature: float, top_p: float, max_new_tokens: int) -> list[str]:
        """A request's seed is a function of (seed, task, document, repeat); lm-eval sends the repeats as equal requests."""
        repeat: Counter = Counter()
        seeds, contexts = [], []
        for request in requests:
            document = (request.task_name, request.doc_id)
            seeds.append(derive(self.seed, "evaluate", *document, repeat[document]))
            repeat[document] += 1
            contexts += self.own[request.task_name].contexts([request.doc["row"]])
        rows = self.sample(contexts, seeds, temperature, top_p, max_new_tokens)
        closed = [(ids, ended and ids[-1] in self.ends) for ids, ended in zip(*rows, strict=True)]
        texts = [before(completion_text(self.tokenizer, ids, end), self.stop) for ids, end in closed]
        return [judged_text(self.tokenizer, context, text) for context, text in zip(contexts, texts, strict=True)]

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """As in training; lm-eval would leave out an empty system message, and any that the template refuses."""
        task = next(iter(self.own.values())).task if self.own else None
        system, told = (task.system, task.template) if task else (None, {})
        if system is not None and chat_history[0]["role"] != "system":
            chat_history = [{"role": "system", "content": system}, *chat_history]
        thinking = {} if self.enable_thinking is None else {"enable_thinking": self.enable_thinking}
        return chat_text(self.tokenizer, chat_history, told | thinking | self.chat_template_args, add_generation_prompt)


def bos_rule(own: dict[str, PromptPool]) -> bool | None:
    """lm-eval's add_bos_token for built-in tasks: None is the tokenizer's own rule (a BOS that stands there is not doubled)."""
    task = next(iter(own.values())).task if own else None
    if task is None or task.bos == "auto":
        return False if task is not None and task.chat else None
    return task.bos == "always"
