"""Spans between two tokenizers: bytes that each token stands for, whatever writes it, and the texts they add up to."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from opd_steps.models.tokenizers import char_tokenizer, encode
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.tasks.asking import Task
from opd_steps.tasks.pool import PromptPool
from opd_steps.tasks.render import completion_text, response_ids
from opd_steps.teachers.spans import SpanTeacher, _sizes, align, text_sizes, token_bytes
from tests.unit.made_tokenizers import MADE, made

TEXT = st.text(st.characters(blacklist_categories=["Cs"], max_codepoint=0x1F700), max_size=20)


def test_byte_fallback_tokens_are_one_byte():
    tokenizer = made("byte_fallback")
    ids = tokenizer.convert_tokens_to_ids(["<0x0A>", "<0xE4>", "\u2581is", "7", "<eos>"])
    assert token_bytes(tokenizer, ids) == [1, 1, 3, 1, 0]
    assert sum(token_bytes(tokenizer, encode(tokenizer, "a\n你"))) == len("a\n你".encode())
    letters = char_tokenizer("<0xA>\u2581")  # here the lower block is itself, three bytes
    assert token_bytes(letters, encode(letters, "<0\u2581")) == [1, 1, 3]


@given(st.sampled_from(sorted(MADE)), TEXT)
def test_sizes_add_up_to_the_text(name, text):
    tokenizer = made(name)
    ids = encode(tokenizer, text)
    if completion_text(tokenizer, ids) == text:  # what a decoder does not give back (a leading space, say) has no spans
        assert sum(text_sizes(tokenizer, ids, text)) == len(text.encode())


def test_a_vocabulary_is_read_once(monkeypatch):
    tokenizer = MADE["sentencepiece"]()
    reads = []
    whole = type(tokenizer).convert_ids_to_tokens
    monkeypatch.setattr(
        type(tokenizer), "convert_ids_to_tokens", lambda self, ids, **k: reads.append(1) or whole(self, ids, **k)
    )
    monkeypatch.setattr(Tokenizer, "to_str", None)  # nor is it ever written out
    _sizes.cache_clear()
    for _ in range(5):
        token_bytes(tokenizer, encode(tokenizer, "two words"))
    assert len(reads) == 1


@pytest.mark.parametrize("student", MADE)
@pytest.mark.parametrize("teacher", MADE)
@pytest.mark.parametrize("ended", [True, False])
def test_every_text_that_both_spell_has_spans_to_its_end(student, teacher, ended):
    mine, its = made(student), made(teacher)
    rows = [{"prompt": "What is 7 + 5?"}] * 2
    task = Task({}, {}, chat=False, system=None)
    texts = ["It is 12\nis it? 你 ", "7"]
    said = [response_ids(mine, text) for text in texts]
    said = said if ended else [ids[:-1] for ids in said]
    trajectory = Trajectory([[5]] * 2, [torch.tensor(ids) for ids in said], torch.arange(2), ended_B=torch.full((2,), ended))
    prepared = SpanTeacher(SimpleNamespace(tokenizer=its), PromptPool(rows, task, mine)).prepare(trajectory, "its").extra
    for i in range(2):
        own, other = prepared["its:span"][i], prepared["its:its_span"][i]
        assert own.max() == other.max() >= 0 and other.min() >= 0
        assert own.min() >= 0  # also of a leading space that the decoder drops
        if student == teacher:
            assert own.tolist() == other.tolist() == list(range(len(own)))
    assert prepared["context:its"][0] == task.prompt_ids(its, "What is 7 + 5?")


def test_a_row_that_a_stop_string_ended_has_no_end_token_to_span():
    mine, its = made("byte_fallback"), made("sentencepiece")
    teacher = SpanTeacher(SimpleNamespace(tokenizer=its), PromptPool([{"prompt": "7?"}], Task({}, {}, False, None), mine))
    cut = Trajectory([[5]], [torch.tensor(encode(mine, "It is 12"))], torch.tensor([0]), ended_B=torch.tensor([False]))
    expected = teacher.prepare(cut, "its").extra
    found = teacher.prepare(cut.with_columns(ended_B=torch.tensor([True]), stop=["12"]), "its").extra
    assert found.keys() == expected.keys() and all(
        torch.equal(found[k][0], expected[k][0]) for k in found if k != "context:its"
    )


def test_align_by_hand():
    assert align([2, 1, 3], [1, 2, 1, 2]) == ([0, 0, 1], [0, 0, 1, 1])
    assert align([2, 2], [3]) == ([-1, -1], [-1])
