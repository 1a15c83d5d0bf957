"""Thinking on and off: prompts are what the tokenizer's own template writes, and a thought that was cut off never counts as an answer."""

from __future__ import annotations

import pytest
import torch

from opd_steps.evaluation.own_tasks import OwnTasks
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.tasks.asking import Task
from opd_steps.tasks.pool import PromptPool
from opd_steps.tasks.render import completion_text, judged_text, prompt_ids
from tests.unit.chat_tokenizers import SIZE, THINKING_BEGUN, THINKING_SWITCH, chat_tokenizer

ASKED = "Find $17_{b}$ \\boxed{}.\n\n  Grüße 你好 🙂"
SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."
SMALL = 400  # tokens: where no shape is asked, a small one is made at once


def pool(tokenizer, verifier: str = "math", answer: str = "70", **task) -> PromptPool:
    rows = [{"id": "0", "prompt": ASKED, "answer": answer, "solution": answer}]
    return PromptPool(rows, Task({"name": verifier}, {"name": "none"}, **{"chat": True, "system": None, **task}), tokenizer)


@pytest.mark.parametrize("told", [{}, {"enable_thinking": True}, {"enable_thinking": False}])
@pytest.mark.parametrize("system", [None, SYSTEM])
def test_prompts_are_the_templates_own_to_the_byte(told, system):
    tokenizer = chat_tokenizer()
    assert len(tokenizer) == SIZE
    chat = [*([{"role": "system", "content": system}] if system else []), {"role": "user", "content": ASKED}]
    theirs = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, **told)
    ids = prompt_ids(tokenizer, ASKED, chat=True, system=system, template=told)
    assert tokenizer.decode(ids).encode() == theirs.encode()
    assert ids == tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False, **told)
    assert theirs.endswith("<think>\n\n</think>\n\n") == (told == {"enable_thinking": False})


CUT = "So b + 7 divides 56, \\boxed{70} it seems. Let me"
CASES = {
    "the answer begins its thought": (THINKING_SWITCH, {"enable_thinking": True}, "<think>\n" + CUT, "</think>\n\n\\boxed{70}"),
    "the prompt begins it": (THINKING_BEGUN, {}, CUT, "</think>\n\n\\boxed{70}"),
    "a later one": (THINKING_SWITCH, {}, "<think>no</think> Wait. <think>" + CUT, "</think> \\boxed{70}"),
}


def judged(tokenizer, texts: list[str], told: dict, ended: bool, verifier: str) -> list[float]:
    asked = pool(tokenizer, verifier, template=told)
    ids = [torch.tensor(tokenizer(text)["input_ids"] + [tokenizer.eos_token_id] * ended) for text in texts]
    context = asked.contexts([0]) * len(ids)
    rows = Trajectory(context, ids, torch.zeros(len(ids), dtype=torch.long), ended_B=torch.tensor([ended] * len(ids)))
    return asked.rewards(rows)


@pytest.mark.parametrize("verifier", ["math", "numeric"])
@pytest.mark.parametrize("hidden", [False, True], ids=["tags are tokens", "tags are special tokens"])
@pytest.mark.parametrize("case", CASES)
def test_a_thought_that_was_cut_off_scores_0_and_one_that_ended_is_left_out(case, hidden, verifier):
    template, told, cut, rest = CASES[case]
    tokenizer = chat_tokenizer(template, size=SMALL, hidden_tags=hidden)
    assert judged(tokenizer, [cut], told, ended=False, verifier=verifier) == [0.0]
    assert judged(tokenizer, [cut], told, ended=True, verifier=verifier) == [0.0]  # it ended without an answer
    wrong = rest.replace("70", "71")
    assert judged(tokenizer, [cut + rest, cut + wrong], told, ended=True, verifier=verifier) == [1.0, 0.0]


def test_without_thinking_an_answer_is_read_as_it_stands():
    tokenizer = chat_tokenizer(size=SMALL)
    assert judged(tokenizer, ["\\boxed{70}"], {"enable_thinking": False}, ended=True, verifier="math") == [1.0]


class Said(OwnTasks):
    """A backend that says one text."""

    def __init__(self, tokenizer, own: PromptPool, text: str):
        self.own, self.seed, self.ends, self.tokenizer, self.text = {"test": own}, 0, (0,), tokenizer, text

    def sample(self, contexts, seeds, temperature, top_p, max_new_tokens):
        return [self.tokenizer(self.text)["input_ids"] for _ in contexts], [False for _ in contexts]


@pytest.mark.parametrize("case", CASES)
def test_lm_evals_samples_are_judged_alike(case):
    from lm_eval.api.instance import Instance

    from opd_steps.evaluation.split_task import SplitTask

    template, told, cut, rest = CASES[case]
    tokenizer = chat_tokenizer(template, size=SMALL)
    asked = pool(tokenizer, template=told)
    split = SplitTask("test", asked, 1, {"temperature": 0.6, "top_p": 0.95}, 64, tokenizer.eos_token)
    for text, score in ((cut, 0.0), (cut + rest, 1.0)):
        options = {"temperature": 0.6, "top_p": 0.95, "max_gen_toks": 64}
        request = Instance("generate_until", {"row": 0}, ("", options), 0, metadata=("test", 0, 1))
        (completion,) = Said(tokenizer, asked, text).generate_until([request])
        assert split.judged(0, [completion]) == [score]


def test_tags_stay_where_they_are_special_tokens_and_other_names_go():
    tokenizer = chat_tokenizer(size=SMALL, hidden_tags=True)
    ids = tokenizer("<think>a</think>b<|im_end|>")["input_ids"]
    assert completion_text(tokenizer, ids) == "<think>a</think>b"
    assert judged_text(tokenizer, ids[:1], "a") == "<think>a" and judged_text(tokenizer, ids, "a") == "a"
