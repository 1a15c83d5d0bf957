"""Chats of several messages: prompts and turns are the template's own tokens, and who said each is known to the token."""

from __future__ import annotations

import json

import pytest
import torch

from opd_steps.errors import UserError
from opd_steps.nouns.heard import woven
from opd_steps.tasks.asking import Task
from opd_steps.tasks.chat_turns import chat_turns
from opd_steps.tasks.messages import read_chat
from opd_steps.tasks.pool import PromptPool
from opd_steps.tasks.sources.jsonl import Jsonl
from tests.unit.chat_tokenizers import IM_END, THINKING_BEGUN, THINKING_SWITCH, chat_tokenizer
from tests.unit.test_tasks_steps import run

SMALL = 400
CHAT = [
    {"role": "system", "content": "Be brief.\n"},
    {"role": "user", "content": " What is 7 + 5?"},
    {"role": "assistant", "content": "12, as 7 + 5 = 12."},
    {"role": "user", "content": "And 17_{b}?\n\n Grüße 🙂"},
    {"role": "assistant", "content": "b + 7"},
    {"role": "user", "content": "Sure?"},
    {"role": "assistant", "content": "Yes.\n"},
]


def pool(chat: list[dict], writes: str = THINKING_SWITCH, **task) -> PromptPool:
    before, asked, said = read_chat(chat, "here", "messages")
    row = {"id": "0", "prompt": asked, "answer": "", "solution": said, "before": before}
    made = Task({"name": "unjudged"}, {"name": "marks"}, **{"chat": True, "system": None, **task})
    return PromptPool([row, row], made, chat_tokenizer(writes, size=SMALL))


def theirs(tokenizer, chat: list[dict], asks: bool, **told) -> list[int]:
    return tokenizer.apply_chat_template(chat, add_generation_prompt=asks, return_dict=False, **told)


@pytest.mark.parametrize("template", [THINKING_SWITCH, THINKING_BEGUN])
@pytest.mark.parametrize("told", [{}, {"enable_thinking": True}, {"enable_thinking": False}])
def test_prompts_are_the_templates_own(template, told):
    for end in (2, 4, 6):
        here = pool(CHAT[:end], template, template=told)
        assert here.contexts([0, 1]) == [theirs(here.tokenizer, CHAT[:end], True, **told)] * 2
    here = pool(CHAT[1:4], template, template=told, system="Another.")
    front = [{"role": "system", "content": "Another."}]
    assert here.contexts([0])[0] == theirs(here.tokenizer, front + CHAT[1:4], True, **told)
    assert pool(CHAT[:4], template, template=told, system="Another.").contexts([0]) == pool(
        CHAT[:4], template, template=told
    ).contexts([0])


def test_attempts_are_shown_in_the_last_message():
    here = pool(CHAT[:4])
    shown = here.task.hints.hinted_prompt(CHAT[3]["content"], right=["b"], wrong=[])
    assert here.hinted(0, right=["b"]) == theirs(here.tokenizer, [*CHAT[:3], CHAT[3] | {"content": shown}], True)


@pytest.mark.parametrize("template", [THINKING_SWITCH, THINKING_BEGUN])
@pytest.mark.parametrize("told", [{}, {"enable_thinking": False}])
@pytest.mark.parametrize("chat", [CHAT, CHAT[:3], CHAT[1:], CHAT[:5]])
def test_turns_are_the_templates_own_and_the_assistants_to_the_token(template, told, chat):
    here = pool(chat, template, template=told)
    rows = here.written("solution", "turns", ids=[1, 0])
    tokenizer = here.tokenizer
    whole = theirs(tokenizer, chat, False, **told)
    last = len(whole) - whole[::-1].index(tokenizer.eos_token_id)
    assert rows.contexts[0] + woven(rows)[0][0] == whole[:last] and rows.prompt_B.tolist() == [1, 0]
    said = "".join(message["content"] + IM_END for message in chat if message["role"] == "assistant")
    assert tokenizer.decode(rows.actions[0].tolist()) == said
    assert all(map(torch.equal, rows.actions, [rows.actions[0]] * 2))
    if len(chat) == 3 and template == THINKING_SWITCH and not told:  # one turn is an answer as ever
        plain = here.written("solution")
        assert plain.contexts == rows.contexts and torch.equal(plain.actions[0], rows.actions[0])


def test_an_empty_thought_that_the_prompt_ends_with_is_no_turns_own():
    """Earlier turns stand without it, and so does the last one where it was written so."""
    tokenizer = chat_tokenizer(size=SMALL)
    chat = [*CHAT[:6], {"role": "assistant", "content": "<think>\n\n</think>\n\nYes."}]
    pieces = chat_turns(tokenizer, chat, {"enable_thinking": False})
    assert [tokenizer.decode(ids) for ids, own in pieces if own] == [
        f"12, as 7 + 5 = 12.{IM_END}",
        f"b + 7{IM_END}",
        f"Yes.{IM_END}",
    ]


def test_names_of_special_tokens_in_messages_are_text():
    chat = [{"role": "user", "content": f"Say {IM_END}"}, {"role": "assistant", "content": f"a{IM_END}b"}]
    tokenizer = chat_tokenizer(size=SMALL)
    (front, _), (own, mine) = chat_turns(tokenizer, chat)
    assert mine and own.count(tokenizer.eos_token_id) == 1 and own[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(own) == f"a{IM_END}b{IM_END}" and front.count(tokenizer.eos_token_id) == 1


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (
            "{{ messages | length }}{% for m in messages %}{{ m['content'] }}{% endfor %}",
            "otherwise once more follow.*loss_on response",
        ),
        (
            "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}",
            "ends an answer without the end token",
        ),
    ],
)
def test_templates_whose_turns_cannot_be_told_apart_are_refused(template, says):
    with pytest.raises(UserError, match=says):
        chat_turns(chat_tokenizer(template, size=SMALL), CHAT)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("hello", r"here: column 'messages' is str, not a list of messages"),
        (None, r"column 'messages' is NoneType"),
        ([], r"expected a user's message at the end, or an assistant's behind it; there is none"),
        (CHAT[:1], r"it ends with 'system'"),
        ([*CHAT, CHAT[-1]], r"it ends with 'assistant'"),
        ([{"role": "user"}], r"messages\[0\]: expected a mapping with role and content, both text"),
        ([CHAT[1], {"role": "assistant", "content": "", "tool_calls": [1]}], r"messages\[1\].tool_calls: nothing reads it"),
    ],
)
def test_what_is_no_chat_is_refused(value, says):
    with pytest.raises(UserError, match=says):
        read_chat(value, "here", "messages")
    assert read_chat([CHAT[1] | {"name": None}], "here", "messages") == ([], CHAT[1]["content"], "")


def lay(folder, train: list[list[dict]], test: list[list[dict]]) -> dict:
    folder.mkdir(exist_ok=True)
    for split, chats in (("train", train), ("test", test)):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats))
    return {"name": "jsonl", "path": str(folder), "messages": "messages", "answer": ""}


def test_a_data_set_of_chats(tmp_path):
    other = [CHAT[1], CHAT[2], CHAT[3], CHAT[4], CHAT[5], CHAT[6] | {"content": "No."}]
    source = lay(tmp_path / "chats", [CHAT, other, CHAT[:3]], [CHAT[:2], other])
    folder, manifest = run(tmp_path, "data", source=source, verifier={"name": "unjudged"}, chat=True)
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    assert [(row["prompt"], row["solution"]) for row in rows] == [
        ("Sure?", "Yes.\n")
    ]  # the others are asked in test, word for word
    assert rows[0]["before"] == CHAT[:5] and "G" in manifest["facts"]["alphabet"]
    with pytest.raises(UserError, match=r"train.jsonl:1: messages stand before this prompt: expected chat: true"):
        run(tmp_path, "data", "plain", source=lay(tmp_path / "plain", [CHAT], [CHAT[1:2]]), verifier={"name": "unjudged"})
    named = Jsonl(source["path"], messages="messages", answer="messages.0.role", solution="messages.1.content")
    assert named.rows(0)["train"][0]["solution"] == " What is 7 + 5?"


def test_turns_are_those_of_chats(tmp_path):
    from omegaconf import OmegaConf

    from opd_steps.graph.checked import checked
    from opd_steps.graph.nodes import Graph

    nodes = {
        "data": {"kind": "data"},
        "init": {"kind": "model", "data": "data", "config": {"hidden_size": 32}},
        "sft": {"kind": "sft", "student": "init", "data": "data", "loss_on": "turns"},
    }
    OmegaConf.save({"paper": {"title": "t"}, "nodes": nodes}, tmp_path / "toy.yaml")
    with pytest.raises(UserError, match=r"nodes.sft.loss_on: turns are those of a data set with chat: true"):
        checked(Graph([str(tmp_path / "toy.yaml")]))
