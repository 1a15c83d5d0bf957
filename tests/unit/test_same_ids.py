"""One prompt, one row of ids: in training, rollouts and lm-eval, whatever the tokenizer, template, system message and white space."""

from __future__ import annotations

import datetime

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval.api.model import LM
from tokenizers import processors

from opd_steps.errors import UserError
from opd_steps.evaluation import harness
from opd_steps.evaluation.own_tasks import OwnTasks, bos_rule
from opd_steps.evaluation.policy_lm import PolicyLM
from opd_steps.evaluation.split_task import SplitTask
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.models.special import leading_ids, names_in
from opd_steps.models.tokenizers import CHATML, encode
from opd_steps.tasks import chat as chats
from opd_steps.tasks.asking import Task
from opd_steps.tasks.pool import PromptPool
from opd_steps.tasks.render import prompt_ids
from tests.unit.made_tokenizers import MADE, SYSTEMS_REFUSED, TEMPLATES, made
from tests.unit.tiny import qwen

SPACES = st.sampled_from(["", " ", "\n", "\t ", "\r\n", "\u00a0", "\u2028"])
NAMES = st.sampled_from(["<eos>", "</s>", "<bos>", "<|im_end|>", "<|im_start|>system\n", "<end_of_turn>", "<turn|><|turn|>"])
WORDS = st.text(st.characters(blacklist_categories=["Cs"], max_codepoint=0x1F700), min_size=1, max_size=8)
BODY = st.lists(st.one_of(WORDS, WORDS, NAMES), min_size=1, max_size=4).map("".join)
TEXT = st.tuples(SPACES, BODY.filter(lambda text: text.strip()), SPACES).map("".join)
SYSTEM = st.sampled_from([None, "", "  ", "\n\n", "Be brief.", " Sei kurz, 请 🙂\n", "</s> <|im_end|>"])


class Recorder(OwnTasks, LM):
    """What a backend of lm-eval is asked to continue."""

    chat_template_args, enable_thinking = {}, None
    tokenizer_name = "recorder"

    def __init__(self, own: dict[str, PromptPool], tokenizer):
        super().__init__()
        self.own, self.seed, self.ends, self.tokenizer, self.seen = own, 0, (1,), tokenizer, []

    def chat_template(self, chat_template: bool | str = False) -> str:
        return ""

    def loglikelihood(self, requests):
        raise NotImplementedError

    def loglikelihood_rolling(self, requests):
        raise NotImplementedError

    def sample(self, contexts, seeds, temperature, top_p, max_new_tokens):
        self.seen += contexts
        return [[1] for _ in contexts], [True for _ in contexts]


def pool_of(prompts: list[str], tokenizer, **task) -> PromptPool:
    rows = [{"id": str(i), "prompt": p, "answer": "", "solution": ""} for i, p in enumerate(prompts)]
    return PromptPool(rows, Task({"name": "exact"}, {"name": "none"}, **{"chat": False, "system": None, **task}), tokenizer)


@settings(max_examples=100)
@given(
    st.sampled_from(sorted(MADE)), st.sampled_from(sorted(TEMPLATES)), SYSTEM, st.lists(TEXT, min_size=1, max_size=3), st.data()
)
def test_training_and_lm_eval_show_the_same_ids(name, template, system, prompts, data):
    chat = data.draw(st.booleans()) and not (template in SYSTEMS_REFUSED and system is not None)
    bos = data.draw(st.sampled_from(["auto", "always", "never"]))
    tokenizer = made(name, template)
    pool = pool_of(prompts, tokenizer, chat=chat, system=system if chat else None, bos=bos)
    split = SplitTask("test", pool, 0, {"temperature": 1.0}, 6, tokenizer.eos_token)
    lm = Recorder({"test": pool}, tokenizer)
    harness.evaluate(lm, harness.load_tasks(split.configs(), [], None, 0), 0, chat, pool.task.system, 0)
    assert lm.seen == pool.contexts(range(len(prompts)))
    # a policy's rollout takes these ids as they are: nothing is tokenised behind it, neither here nor in vLLM


@settings(max_examples=300)
@given(st.sampled_from(sorted(MADE)), st.sampled_from(sorted(TEMPLATES)), SYSTEM, TEXT)
def test_ids_are_transformers_own_where_no_name_of_a_special_token_is_in_the_way(name, template, system, prompt):
    tokenizer = made(name, template)
    free = not any(names_in(tokenizer, text) for text in (prompt, system or ""))
    assert prompt_ids(tokenizer, prompt) == [*leading_ids(tokenizer), *encode(tokenizer, prompt)]
    if free:
        assert prompt_ids(tokenizer, prompt) == tokenizer(prompt)["input_ids"]  # its own rule, BOS included
    if template in SYSTEMS_REFUSED and system is not None:
        with pytest.raises(UserError, match=r"the chat template fails on messages of system, user: .*not supported"):
            prompt_ids(tokenizer, prompt, chat=True, system=system)
    elif free and template != "with a clock":
        messages = [*([] if system is None else [{"role": "system", "content": system}]), {"role": "user", "content": prompt}]
        theirs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        assert prompt_ids(tokenizer, prompt, chat=True, system=system) == theirs


@settings(max_examples=300)
@given(st.sampled_from(sorted(MADE)), st.sampled_from([t for t in sorted(TEMPLATES) if t not in SYSTEMS_REFUSED]), SYSTEM, TEXT)
def test_data_never_makes_a_special_token(name, template, system, prompt):
    """However many names a prompt holds: the special tokens are those that the template writes around another one."""
    tokenizer = made(name, template)
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special and len(token.content) > 1}
    made_by = lambda ids: [i for i in ids if i in special and i != tokenizer.unk_token_id]
    calm = prompt_ids(tokenizer, "x", chat=True, system=None if system is None else "y")
    assert made_by(prompt_ids(tokenizer, prompt, chat=True, system=system)) == made_by(calm)
    assert made_by(encode(tokenizer, prompt)) == []
    assert made_by(prompt_ids(tokenizer, prompt)) == list(leading_ids(tokenizer))


@pytest.mark.parametrize("name", MADE)
def test_names_stay_readable(name):
    tokenizer = made(name, "chatml")
    text = "7 <eos></s> <|im_end|>"
    assert tokenizer.decode(encode(tokenizer, text)) == text
    shown = tokenizer.decode(prompt_ids(tokenizer, text, chat=True, system="<|im_start|>"))
    assert shown.replace(" ", "") == (
        f"<|im_start|>system\n<|im_start|><|im_end|>\n<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n".replace(
            " ", ""
        )
    )


def test_bos_is_there_once_or_not_at_all():
    wrote, bare, none = made("byte_level", "llama 3"), made("byte_level", "chatml"), made("plain_bytes", "bare")
    without = MADE["plain_bytes"]()
    without.bos_token = None
    count = lambda tokenizer, **options: prompt_ids(tokenizer, "7+5", **options).count(tokenizer.bos_token_id)
    assert [count(wrote, chat=True, bos=b) for b in ("auto", "always", "never")] == [1, 1, 0]
    assert [count(wrote, bos=b) for b in ("auto", "always", "never")] == [1, 1, 0]
    assert [count(bare, chat=True, bos=b) for b in ("auto", "always", "never")] == [0, 1, 0]
    assert [count(none, bos=b) for b in ("auto", "always", "never")] == [0, 1, 0]
    with pytest.raises(UserError, match="bos: always, but this tokenizer has no BOS token"):
        prompt_ids(without, "7+5", bos="always")


def test_an_eos_that_a_rule_adds_behind_a_text_is_no_prompt():
    tokenizer, pair = MADE["byte_level"](), [("<bos>", 2), ("<eos>", 1)]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing("<bos> $A <eos>", None, pair)
    assert tokenizer("7+5")["input_ids"][-1] == 1
    assert leading_ids(tokenizer) == (2,) and prompt_ids(tokenizer, "7+5")[-1] != 1


def test_a_prompt_of_no_tokens_is_refused_and_one_of_a_bos_alone_is_none():
    with pytest.raises(UserError, match="no tokens at all in ''"):
        prompt_ids(made("plain_bytes"), "")
    assert prompt_ids(made("byte_level"), "") == [2]


def test_the_clock_of_a_template_stands(monkeypatch):
    tokenizer = made("byte_level", "with a clock")

    class Later(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2031, 1, 2, 3, 4, 5)

    before = prompt_ids(tokenizer, "7+5", chat=True)
    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Later)
    assert "2031" in tokenizer.apply_chat_template([{"role": "user", "content": ""}], tokenize=False)  # it would tell the time
    assert prompt_ids(tokenizer, "7+5", chat=True) == before
    assert tokenizer.decode(before) == "[user 26 Jul 2024 00:00:00.000000]7+5"


@pytest.mark.parametrize(
    ("template", "system", "says"),
    [
        (None, None, "chat: this tokenizer has no chat template"),
        ({"tool_use": "x", "rag": "y"}, None, "chat: the chat template fails on messages of user: .*no default"),
        ("{% for m in messages %}", None, "chat: the chat template fails .*TemplateSyntaxError"),
        ("{{ messages[0].nothing.at_all }}", None, "chat: the chat template fails .*UndefinedError"),
        (TEMPLATES["gemma"], "", "messages of system, user: TemplateError: System role not supported"),
        ("{{ messages[-1]['content'] }}", "Be brief.", "system: the chat template leaves the system message out"),
        ("{% for p in messages[0]['content'] %}{{ p['text'] }}{% endfor %}:", None, "does not show the user's message"),
        ("{{ [1, 2] | random }}{{ messages[0]['content'] }}", None, "draws at random"),
        ("{% for m in messages %}{{ 1 // 0 }}{% endfor %}", None, "ZeroDivisionError"),
    ],
)
def test_templates_that_cannot_show_the_data_are_refused_in_one_line(template, system, says):
    tokenizer = MADE["plain_bytes"]()
    tokenizer.chat_template = template
    with pytest.raises(UserError, match=says) as caught:
        chats.check_chat(tokenizer, system)
    assert "\n" not in str(caught.value)


THINKS = CHATML + "{% if add_generation_prompt and enable_thinking is false %}{{ '<think></think>' }}{% endif %}"


def test_what_a_template_is_told_is_in_every_prompt():
    tokenizer = made("byte_level", "chatml")
    tokenizer.chat_template = THINKS
    pool = pool_of(["7+5"], tokenizer, chat=True, template={"enable_thinking": False})
    (ids,) = pool.contexts([0])
    assert ids == tokenizer.apply_chat_template(
        [{"role": "user", "content": "7+5"}], add_generation_prompt=True, enable_thinking=False, return_dict=False
    )
    assert tokenizer.decode(ids).endswith("<think></think>")
    assert not tokenizer.decode(prompt_ids(tokenizer, "7+5", chat=True)).endswith("<think></think>")
    shown = Recorder({"test": pool}, tokenizer).apply_chat_template([{"role": "user", "content": "7+5"}])
    assert shown.endswith("<think></think>")  # lm-eval's own tasks


@pytest.mark.parametrize(
    ("name", "says"), [("thinking", "template.thinking: .*does not read it"), ("messages", "chat: .*fails on")]
)
def test_what_a_template_cannot_be_told_is_refused(name, says):
    tokenizer = made("byte_level", "chatml")
    tokenizer.chat_template = THINKS
    chats.check_chat(tokenizer, None, {"enable_thinking": False})
    with pytest.raises(UserError, match=says):
        chats.check_chat(tokenizer, None, {name: False})


def test_every_other_template_passes():
    for template in TEMPLATES:
        for system in (None, *([] if template in SYSTEMS_REFUSED else ["", "Be brief."])):
            chats.check_chat(made("byte_level", template), system)


@pytest.mark.parametrize("bos", ["auto", "always", "never"])
@pytest.mark.parametrize(("template", "chat"), [("llama 3", True), ("chatml", True), ("chatml", False)])
def test_built_in_tasks_of_lm_eval_see_what_a_prompt_of_ours_would(template, chat, bos):
    """HFLM's own tokenisation, with the system message of the data, be it empty, and its BOS."""
    tokenizer = made("byte_level", template)
    pool = pool_of(["What is 7 + 5?"], tokenizer, chat=chat, system="" if chat else None, bos=bos)
    torch.manual_seed(0)
    lm = PolicyLM(LMPolicy(qwen(len(tokenizer)), tokenizer), 0, {"test": pool})
    text = lm.apply_chat_template([{"role": "user", "content": "What is 7 + 5?"}]) if chat else "What is 7 + 5?"
    seen = lm.tok_encode(text)
    assert bos_rule({}) is None
    if (template, bos) != ("llama 3", "never"):  # what a template writes is there
        assert seen == pool.contexts([0])[0]
