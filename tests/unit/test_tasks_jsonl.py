"""What is in a data file is judged where it is read: one line with file and line number, never a traceback."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opd_steps.errors import UserError
from opd_steps.store.jsonl import read_jsonl
from opd_steps.tasks.rows import row, splits
from opd_steps.tasks.sources.jsonl import Jsonl
from opd_steps.tasks.texts import check_texts
from tests.unit.test_tasks_steps import run

GOOD = b'{"prompt": "1+1=", "answer": "2"}\n'
BAD = {
    "latin 1": (b'{"prompt": "Gr\xfc\xdfe", "answer": "2"}', "not UTF-8 text: byte 0xfc"),
    "utf 16": ('{"prompt": "a", "answer": "2"}'.encode("utf-16"), "not UTF-8 text: byte 0xff"),
    "a lone surrogate": (b'{"prompt": "a\\ud83d", "answer": "2"}', r"half of a surrogate pair: '\ud83d' is no character"),
    "the second half first": (b'{"prompt": "\\uDE42\\uD83D", "answer": "2"}', "half of a surrogate pair"),
    "one in a key": (b'{"pro\\ud800mpt": "a", "answer": "2"}', "half of a surrogate pair"),
    "5,000 digits": (
        b'{"prompt": "a", "answer": ' + b"7" * 5000 + b"}",
        "a whole number of more than 4300 digits; put it in quotes",
    ),
    "nan": (b'{"prompt": "a", "answer": NaN}', "not valid JSON: NaN is no number"),
    "infinity": (b'{"prompt": "a", "answer": -Infinity}', "-Infinity is no number"),
    "a float that overflows": (b'{"prompt": "a", "answer": 1e999}', "1e999 is no number"),
    "a list": (b"[1]", "expected a JSON object, found list"),
    "half a line": (b'{"prompt": "a", ', "not valid JSON"),
    "nested": (b'{"a": ' + b"[" * 100_000, "nested too deeply"),
    "no prompt": (b'{"prompt": "", "answer": "2"}', "the prompt is empty"),
    "a prompt of spaces": (b'{"prompt": " \\n\\u00a0", "answer": "2"}', "the prompt is empty"),
    "no answer": (b'{"prompt": "a", "answer": ""}', "the answer '' is empty"),
    "a key twice": (b'{"prompt": "a", "prompt": "b", "answer": "2"}', "the key 'prompt' stands twice"),
    "a key twice, deep": (b'{"prompt": "a", "answer": "2", "x": [{"y": 1, "y": 1}]}', "the key 'y' stands twice"),
    "null": (b'{"prompt": null, "answer": "2"}', "column 'prompt' is NoneType"),
}


@pytest.mark.parametrize("line", BAD)
def test_bad_lines_are_named(tmp_path, line):
    file, (bad, says) = tmp_path / "x.jsonl", BAD[line]
    file.write_bytes(GOOD * 2 + b"\n" + bad + b"\n" + GOOD)
    with pytest.raises(UserError) as caught:
        run(tmp_path, "data", source={"name": "jsonl", "path": str(file)})
    assert str(caught.value).startswith(f"{file}:4: ") and says in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
    assert not (tmp_path / "p").exists()


@given(st.binary(max_size=60))
def test_whatever_the_bytes_it_is_rows_or_one_line(tmp_path_factory, data):
    file = tmp_path_factory.mktemp("x") / "x.jsonl"
    file.write_bytes(data)
    try:
        assert all(isinstance(row, dict) for row in read_jsonl(file))
    except UserError as error:
        assert str(error).startswith(f"{file}:") and "\n" not in str(error)


def test_what_is_good_is_read(tmp_path):
    file = tmp_path / "x.jsonl"
    rows = [{"prompt": "a\u2028b 🙂", "answer": "2", "n": 10**400, "x": 1e-7}, {"prompt": '\\ud"', "answer": "\x00"}]
    file.write_text(
        "\ufeff" + "\r\n".join(json.dumps(row) for row in rows) + "\n\n"
    )  # a BOM, \r\n, escaped pairs, a blank line
    assert read_jsonl(file) == rows


@pytest.mark.parametrize("text", ["", "\n \n", "\ufeff"])
def test_a_file_without_rows_says_its_path(tmp_path, text):
    file = tmp_path / "x.jsonl"
    file.write_text(text)
    with pytest.raises(UserError, match=rf"^{file}: no rows in this file: expected a JSON object on each line$"):
        run(tmp_path, "data", source={"name": "jsonl", "path": str(file)})


def test_a_train_split_that_test_eats_says_why(tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_bytes(GOOD * 3)
    with pytest.raises(UserError, match="train split: no row is left of 3: the prompt of each also stands in test or ood"):
        run(tmp_path, "data", source={"name": "jsonl", "path": str(tmp_path)})


def test_a_source_whose_options_keep_nothing_says_its_path(tmp_path):
    (tmp_path / "train.jsonl").write_text(json.dumps({"question": "?", "answer": "6/2=<<6/2=3>> #### 3"}) + "\n")
    source = {"name": "gsm8k_calc", "path": str(tmp_path), "max_chars": 2}
    with pytest.raises(
        UserError, match=rf"source 'gsm8k_calc' \({tmp_path}\): it yields no train rows: none passes its options"
    ):
        run(tmp_path, "data", source=source)


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (("", "2", "2"), "train-1: the prompt is empty"),
        (("a", "2", " \n"), "train-1: the solution is empty"),
        (("a", "2", "\ud800"), "train-1: solution holds half of a surrogate pair"),
    ],
)
def test_texts_of_every_source_are_judged(texts, says):
    made = splits([row("1+1=", "2", "2"), row(*texts)], [])
    with pytest.raises(UserError, match=f"source 'mine': {says}"):
        check_texts(made, "source 'mine'")


def test_half_a_character_in_an_option_is_refused(tmp_path):
    file = tmp_path / "x.jsonl"
    file.write_bytes(GOOD)
    judge = {"name": "exact"}
    with pytest.raises(UserError, match="half of a surrogate pair is no character"):
        run(tmp_path, "data", source={"name": "jsonl", "path": str(file)}, verifier=judge, chat=True, system="\udc00")


def test_a_place_is_the_line_of_the_file_behind_a_bom_and_blank_lines(tmp_path):
    file = tmp_path / "x.jsonl"
    file.write_bytes(b"\xef\xbb\xbf\n\r\n" + GOOD + b'{"prompt": "a", "answer": [1]}\n')
    with pytest.raises(UserError, match=rf"^{file}:4: column 'answer' is list"):
        run(tmp_path, "data", source={"name": "jsonl", "path": str(file)})


def test_further_columns_stay_with_the_rows_that_teachers_are_routed_by(tmp_path):
    (tmp_path / "rows.jsonl").write_text(
        '{"prompt": "a", "answer": "1", "domain": "maths"}\n{"prompt": "b", "answer": "2", "domain": 7}\n'
    )
    rows = Jsonl(str(tmp_path / "rows.jsonl"), columns=["domain"]).rows(0)["train"]
    assert [row["meta"] for row in rows] == [{"domain": "maths"}, {"domain": "7"}]
    with pytest.raises(UserError, match=r"rows.jsonl:1: column 'topic' is missing; columns here: prompt, answer, domain"):
        Jsonl(str(tmp_path / "rows.jsonl"), columns=["topic"]).rows(0)
