"""Tokenizers and rendering: ids, round trips, saving, identity."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from opd_steps.errors import UserError
from opd_steps.models.tokenizers import byte_tokenizer, char_tokenizer, describe, digest, encode, vocab_digest
from opd_steps.tasks.render import completion_text, prompt_ids, response_ids

BYTES = byte_tokenizer()
CHARS = char_tokenizer("0123456789+=;\n \u2028")


def reload(tokenizer, folder):
    tokenizer.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def test_char_ids_are_the_sorted_alphabet():
    tokenizer = char_tokenizer("ba\nab")
    assert tokenizer.get_vocab() == {"<pad>": 0, "<eos>": 1, "\n": 2, "a": 3, "b": 4}
    assert (len(tokenizer), tokenizer.pad_token_id, tokenizer.eos_token_id) == (5, 0, 1)
    assert encode(tokenizer, "ab\n\nb") == [3, 4, 2, 2, 4]


@given(st.text("0123456789+=;\n \u2028"))
def test_char_round_trip(text):
    ids = encode(CHARS, text)
    assert len(ids) == len(text) and completion_text(CHARS, ids) == text


@given(st.text().filter(lambda text: not any(name in text for name in BYTES.all_special_tokens)))
def test_byte_round_trip(text):
    ids = encode(BYTES, text)
    assert len(ids) == len(text.encode()) and completion_text(BYTES, ids) == text


def test_an_unknown_character_is_named(tmp_path):
    for tokenizer in (CHARS, reload(CHARS, tmp_path)):
        with pytest.raises(UserError, match="'x' is not in its alphabet"):
            prompt_ids(tokenizer, "1+x=")


@pytest.mark.parametrize("made", [BYTES, CHARS], ids=["byte", "char"])
def test_saving_keeps_the_tokenizer(made, tmp_path):
    loaded = reload(made, tmp_path)
    assert describe(loaded) == describe(made)
    assert encode(loaded, "1+2=3\n") == encode(made, "1+2=3\n")
    assert completion_text(loaded, response_ids(loaded, "1+2=3\n")) == "1+2=3\n"
    assert prompt_ids(loaded, "12", chat=True) == prompt_ids(made, "12", chat=True)


def test_digests_tell_what_differs():
    same, other = char_tokenizer("ab"), char_tokenizer("abc")
    assert digest(same) == digest(char_tokenizer("ba")) != digest(other)
    templated = char_tokenizer("ab")
    templated.chat_template = "{{ messages[0]['content'] }}"
    assert digest(templated) != digest(same) and vocab_digest(templated) == vocab_digest(same)
    assert describe(templated)["chat_template_sha"] != describe(same)["chat_template_sha"]


def test_chat_rendering():
    assert BYTES.decode(prompt_ids(BYTES, "hi", chat=True, system="be brief")) == (
        "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    )
    messages = [{"role": "user", "content": "hi"}]
    ids = BYTES.apply_chat_template(messages, tokenize=True, add_generation_prompt=True, return_dict=False)
    assert prompt_ids(BYTES, "hi", chat=True) == ids
    assert prompt_ids(CHARS, "12", chat=True) == prompt_ids(CHARS, "12")
    bare = char_tokenizer("12")
    bare.chat_template = None
    with pytest.raises(UserError, match="no chat template"):
        prompt_ids(bare, "12", chat=True)


def test_responses_end_with_the_end_token():
    ids = response_ids(CHARS, "12")
    assert ids == [*encode(CHARS, "12"), CHARS.eos_token_id] and completion_text(CHARS, [*ids, CHARS.pad_token_id]) == "12"
