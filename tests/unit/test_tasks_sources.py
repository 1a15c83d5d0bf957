"""Sources: what stands in the rows, splits without leaks, errors that name the place."""

import hashlib
import itertools
import json
import math
import re

import pytest

from opd_steps.errors import UserError
from opd_steps.tasks.sources.arithmetic import Arithmetic
from opd_steps.tasks.sources.continued import Continued, fitting
from opd_steps.tasks.sources.gsm8k import Gsm8k
from opd_steps.tasks.sources.gsm8k_calc import Gsm8kCalc, calculate
from opd_steps.tasks.sources.hf import HuggingFace
from opd_steps.tasks.sources.jsonl import Jsonl
from opd_steps.tasks.verifiers.exact import Exact
from opd_steps.tasks.verifiers.numeric import Numeric

SMALL = {"train": 300, "test": 40, "ood": 20}


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def problem(question, *annotations, answer="7"):
    worked = " and ".join(f"{e} = <<{e}={v}>>{v}" for e, v in annotations)
    return {"question": question, "answer": f"{worked}\n#### {answer}"}


@pytest.fixture
def gsm8k(tmp_path):
    shared = ("3+4", "7")
    train = [
        problem("a?", shared, ("48/2", "24")),
        problem("b?", ("2+3*4", "14"), ("10/3", "3.33"), ("2*5", "11"), answer="1,080"),
    ]
    test = [problem("c?", shared, ("9-2", "7")), problem("a?", ("9-2", "7"), (".5*8", "4"), ("(1+2)*3", "9"))]
    write_rows(tmp_path / "train.jsonl", train)
    write_rows(tmp_path / "test.jsonl", test)
    return str(tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reverse": True},
        {"modulus": 0, "operators": ["+", "-", "*"]},
        {"modulus": 7, "operators": ["-", "*"]},
        {"digits": 3},
    ],
)
def test_arithmetic_is_a_function_of_its_seed_and_leaks_nothing(options):
    source = Arithmetic(**SMALL, **options)
    rows = source.rows(3)
    assert rows == source.rows(3) != source.rows(4)
    assert {split: len(r) for split, r in rows.items()} == SMALL
    prompts = [r["prompt"] for part in rows.values() for r in part]
    assert len(set(prompts)) == len(prompts)
    verifier = Exact(after="=")
    assert all(verifier.score(r["solution"], r["answer"]) == 1 for part in rows.values() for r in part)
    assert {r["meta"]["terms"] for r in rows["ood"]} == {5} and {r["meta"]["terms"] for r in rows["train"]} == {2, 3, 4}


def test_arithmetic_texts():
    source = Arithmetic()
    assert source._chain([47, 85, 13], ["+", "+"], [0, 0]) == ("47+85=32;32+13=45", 45, 0)
    assert source._chain([47, 85, 13], ["+", "+"], [1, 0]) == (
        "47+85=33;33+13=46",
        46,
        1,
    )  # the chain goes on from the wrong value
    assert Arithmetic(reverse=True)._chain([47, 85], ["+"], [0])[0] == "74+58=23"
    assert Arithmetic(modulus=0)._chain([3, 85, 9], ["-", "*"], [0, 0])[0] == "03-85=-82;-82*09=-738"
    assert Arithmetic(modulus=0, reverse=True).write(-82) == "-28"


def test_arithmetic_without_modulus_stays_right_in_every_step():
    for row in Arithmetic(modulus=0, operators=["+", "-", "*"], **SMALL).rows(0)["train"]:
        for step in row["solution"].split(";"):
            left, right = step.split("=")
            sign, body = (-1, left[1:]) if left[0] == "-" else (1, left)
            at = next(i for i, c in enumerate(body) if c in "+-*")
            a, op, b = sign * int(body[:at]), body[at], int(body[at + 1 :])
            assert int(right) == {"+": a + b, "-": a - b, "*": a * b}[op]


def test_noise_compounds():
    rows = Arithmetic(train=3000, test=10, ood=10, terms=[4]).rows(0)["train"]
    right = sum(Exact("=").score(r["corpus"], r["answer"]) for r in rows) / len(rows)
    assert abs(right - 0.88**3) < 0.03
    assert all((r["corpus"] == r["solution"]) == (r["meta"]["wrong_steps"] == 0) for r in rows)
    clean = Arithmetic(**SMALL, step_noise=0.0).rows(0)["train"]
    assert all(r["corpus"] == r["solution"] for r in clean)


OLD = {  # seed -> of the rows, as they were before there were repairs
    0: "e38ddcab361995632ce81c630b823169d93771e1fb0a40aa2c2ab9b01ce282f8",
    7: "7a47fa1ac9b6d541d932b95015e40ba441fedbd374f3a96640ba49b698661226",
}


def test_without_repairs_the_rows_are_what_they_were():
    for seed, digest in OLD.items():
        rows = Arithmetic(train=50, test=10, ood=10, operators=["+", "-"], step_noise=0.4).rows(seed)
        assert hashlib.sha256(json.dumps(rows).encode()).hexdigest() == digest


def read_chain(text: str, modulus: int) -> list[tuple[bool, bool]]:
    """(wrong at first, mended) of every step, each read for itself; the numbers of a step are those that the chain left."""
    found, total = [], None
    for step in text.split(";"):
        a, b, first, mended = re.fullmatch(r"(\d)\+(\d)=(\d)(?:!(\d))?", step).groups()
        right = (int(a) + int(b)) % modulus
        assert total in (None, int(a)) and (mended is None or (int(mended) == right != int(first)))
        found.append((int(first) != right, mended is not None))
        total = int(mended or first)
    return found


@pytest.mark.parametrize("repair", [0.0, 0.5, 1.0])
def test_repairs_mend_a_wrong_step_and_the_chain_goes_on_from_the_right_result(repair):
    noise, n, sums = 0.3, 1500, {"digits": 1, "modulus": 10, "terms": [5], "ood_terms": [6]}
    make = lambda repair: Arithmetic(train=n, test=20, ood=20, step_noise=noise, repair=repair, **sums).rows(0)
    rows, plain = make(repair), make(0.0)
    same = ("prompt", "answer", "solution")  # and the mistakes before the first that is mended: drawn alike
    assert [[r[k] for k in same] for part in rows.values() for r in part] == [
        [r[k] for k in same] for part in plain.values() for r in part
    ]
    steps = [step for part in rows.values() for r in part for step in read_chain(r["corpus"], 10)]
    wrong = [mended for was_wrong, mended in steps if was_wrong]
    assert not any(mended for was_wrong, mended in steps if not was_wrong) and len(wrong) > 0.25 * len(steps)
    assert sum(wrong) / len(wrong) == pytest.approx(repair, abs=4 * (repair * (1 - repair) / len(wrong)) ** 0.5)
    assert all(len(re.findall("!", r["solution"])) == 0 for r in rows["train"])
    verifier = Exact(after="=", or_after=["!"])
    assert all(verifier.score(r["solution"], r["answer"]) for part in rows.values() for r in part)
    # mistakes that stay shift the result by 1 .. 9, each as likely; a chain of four is right where they add up to 0 modulo 10
    stays = noise * (1 - repair)
    p = sum(math.comb(4, k) * stays**k * (1 - stays) ** (4 - k) * cancels(k) for k in range(5))
    right = sum(verifier.score(r["corpus"], r["answer"]) for r in rows["train"]) / n
    assert right == pytest.approx(p, abs=4 * (p * (1 - p) / n) ** 0.5)


def cancels(k: int) -> float:
    """The share of k shifts of 1 .. 9 that add up to 0 modulo 10, counted."""
    return sum(sum(shifts) % 10 == 0 for shifts in itertools.product(range(1, 10), repeat=k)) / 9**k


def test_a_mended_chain_to_the_letter():
    source = Arithmetic(digits=1, modulus=10)
    assert source._chain([7, 5, 8], ["+", "+"], [1, 0], [True, True]) == ("7+5=3!2;2+8=0", 0, 1)
    assert source._chain([7, 5, 8], ["+", "+"], [1, 4], [False, True]) == ("7+5=3;3+8=5!1", 1, 2)
    assert Arithmetic(reverse=True)._chain([47, 85], ["+"], [1], [True])[0] == "74+58=33!23"
    assert Arithmetic(modulus=0)._chain([3, 85], ["-"], [1], [True])[0] == "03-85=-81!-82"


def test_more_rows_than_there_are_prompts_are_refused():
    with pytest.raises(UserError, match="distinct prompts"):
        Arithmetic(digits=1, terms=[2]).rows(0)


def test_gsm8k(gsm8k):
    rows = Gsm8k(path=gsm8k).rows(0)
    assert [r["prompt"] for r in rows["train"]] == ["b?\n"]  # "a?" also stands in test
    assert [r["prompt"] for r in rows["test"]] == ["c?\n", "a?\n"]
    assert rows["train"][0]["answer"] == "1080" and "<<" not in rows["train"][0]["solution"]
    assert rows["test"][0]["solution"] == "3+4 = 7 and 9-2 = 7\n#### 7" == rows["test"][0]["corpus"]
    assert "<<3+4=7>>" in Gsm8k(path=gsm8k, keep_annotations=True).rows(0)["test"][0]["solution"]
    assert len(Gsm8k(path=gsm8k, test=1).rows(0)["test"]) == 1
    assert all(Numeric().score(r["solution"], r["answer"]) for part in rows.values() for r in part)


def test_gsm8k_needs_the_final_answer(tmp_path):
    file = write_rows(tmp_path / "train.jsonl", [problem("a?"), {"question": "b?", "answer": "seven"}])
    with pytest.raises(UserError, match=f"{file}:2.*####"):
        Gsm8k(path=str(tmp_path)).rows(0)


def test_gsm8k_calc(gsm8k):
    rows = Gsm8kCalc(path=gsm8k).rows(0)
    assert [(r["prompt"], r["solution"], r["answer"]) for r in rows["train"]] == [
        ("3+4=", "7", "7"),
        ("48/2=", "24", "24"),
        ("2+3*4=", "3*4=12;2+12=14", "14"),
    ]
    assert [r["prompt"] for r in rows["test"]] == ["9-2=", "(1+2)*3="] and rows["ood"] == []
    assert rows["test"][0]["id"] == "test-0"
    only = lambda **options: [r["prompt"] for r in Gsm8kCalc(path=gsm8k, **options).rows(0)["train"]]
    assert only(max_operands=2) == ["3+4=", "48/2="] and only(max_number=20) == ["3+4=", "2+3*4="]
    assert only(operators=["+"]) == only(max_chars=3) == ["3+4="]
    assert ".5*8=" in [r["prompt"] for r in Gsm8kCalc(path=gsm8k, integers_only=False).rows(0)["test"]]


def test_calculate():
    assert [text for _, text in calculate("100-50-30")[0]] == ["100-50=50", "50-30=20"]
    assert [text for _, text in calculate("3-5+.25")[0]] == ["3-5=-2", "-2+0.25=-1.75"]
    for bad in ("2**3", "f(1)", "1,000+2", "1/3", "2+", "07+1", "'a'+'b'", "True+1"):
        with pytest.raises(ValueError):
            calculate(bad)


def test_jsonl_file_holds_out_test_rows(tmp_path):
    rows = [{"q": f"{i}?", "a": i, "how": f"it is {i}"} for i in range(10)]
    file = str(write_rows(tmp_path / "x.jsonl", rows))
    source = Jsonl(file, prompt="q", answer="a", solution="how", test=3)
    parts = source.rows(0)
    assert parts == source.rows(0) and len(parts["train"]) == 7 and len(parts["test"]) == 3
    assert {r["prompt"] for part in parts.values() for r in part} == {r["q"] for r in rows}
    row = parts["test"][0]
    assert row["solution"] == row["corpus"] == f"it is {row['answer']}"
    with pytest.raises(UserError, match="hold out 10 of 10"):
        Jsonl(file, prompt="q", answer="a", test=10).rows(0)


def test_jsonl_folder_keeps_its_splits_and_drops_leaks(tmp_path):
    for split, prompts in {"train": "abc", "test": "b", "ood": "bc"}.items():
        write_rows(tmp_path / f"{split}.jsonl", [{"prompt": p, "answer": "1"} for p in prompts])
    parts = Jsonl(str(tmp_path), test=1).rows(0)
    assert {s: [r["prompt"] for r in rows] for s, rows in parts.items()} == {"train": ["a"], "test": ["b"], "ood": ["c"]}
    assert parts["train"][0]["solution"] == "1"


def test_jsonl_errors_name_file_line_and_columns(tmp_path):
    with pytest.raises(UserError, match="no such data file"):
        Jsonl(str(tmp_path / "none.jsonl")).rows(0)
    with pytest.raises(UserError, match=r"train\.jsonl: no such file"):
        Jsonl(str(tmp_path)).rows(0)
    file = tmp_path / "x.jsonl"
    file.write_text('{"prompt": "a", "answer": "1"}\n\n{"prompt": "b", "reply": "1"}\n')
    with pytest.raises(UserError, match=f"{file}:3: column 'answer' is missing; columns here: prompt, reply"):
        Jsonl(str(file)).rows(0)
    file.write_text('{"prompt": "a", "answer": ["1"]}\n')
    with pytest.raises(UserError, match=f"{file}:1: column 'answer' is list"):
        Jsonl(str(file)).rows(0)
    file.write_text('{"prompt": "a", "answer": "1"}\n{"prompt"\n')
    with pytest.raises(UserError, match=f"{file}:2: not valid JSON"):
        Jsonl(str(file)).rows(0)


def test_text_with_odd_line_breaks_is_one_row(tmp_path):
    file = write_rows(tmp_path / "x.jsonl", [])
    file.write_text(json.dumps({"prompt": "a\u2028b\x85", "answer": "1"}, ensure_ascii=False) + "\n", encoding="utf-8")
    assert Jsonl(str(file)).rows(0)["train"][0]["prompt"] == "a\u2028b\x85"


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """`datasets` without network and with a cache of its own."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def test_hf_reads_folders_and_saved_data_sets(tmp_path, offline):
    import datasets

    rows = [{"q": f"{i}?", "a": str(i)} for i in range(6)]
    write_rows(tmp_path / "files" / "train.jsonl", rows[:4])
    write_rows(tmp_path / "files" / "test.jsonl", rows[3:])
    datasets.DatasetDict(train=datasets.Dataset.from_list(rows[:4]), test=datasets.Dataset.from_list(rows[3:])).save_to_disk(
        tmp_path / "dict"
    )
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "one")
    for folder in ("files", "dict"):
        parts = HuggingFace(str(tmp_path / folder), prompt="q", answer="a").rows(0)
        assert [r["prompt"] for r in parts["train"]] == ["0?", "1?", "2?"]  # 3? also stands in test
        assert [r["answer"] for r in parts["test"]] == ["3", "4", "5"]
    parts = HuggingFace(str(tmp_path / "one"), prompt="q", answer="a", test_split="", test=2).rows(0)
    assert (len(parts["train"]), len(parts["test"])) == (4, 2)
    with pytest.raises(UserError, match=r"no split 'dev' for test; this data set has: train, test"):
        HuggingFace(str(tmp_path / "dict"), prompt="q", answer="a", test_split="dev").rows(0)
    with pytest.raises(UserError, match=r"train\[0\]: column 'prompt' is missing; columns here: q, a"):
        HuggingFace(str(tmp_path / "dict")).rows(0)
    with pytest.raises(UserError, match="cannot load this data set"):
        HuggingFace(str(tmp_path / "none")).rows(0)


def test_hf_reads_what_lies_in_messages_asks_in_other_words_and_draws_some_rows(tmp_path, offline):
    import datasets

    rows = [{"said": [{"role": "user", "content": f"{i} {{x}}?"}], "gold": {"value": f"{i}"}} for i in range(20)]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "chats")
    columns = {"prompt": "said.0.content", "answer": "gold.value", "test_split": ""}
    parts = HuggingFace(str(tmp_path / "chats"), **columns, wording="Problem: {prompt}\n\nReason.", train_rows=5).rows(0)
    assert len(parts["train"]) == 5 and parts["test"] == []
    for row in parts["train"]:
        assert row["prompt"] == f"Problem: {row['answer']} {{x}}?\n\nReason."
    texts = [
        [r["prompt"] for r in HuggingFace(str(tmp_path / "chats"), **columns, train_rows=5).rows(s)["train"]] for s in (0, 0, 1)
    ]
    assert texts[0] == texts[1] != texts[2]
    with pytest.raises(UserError, match=r"train\[0\]: column 'said.1.content' is missing; columns here: said, gold"):
        HuggingFace(str(tmp_path / "chats"), prompt="said.1.content", answer="gold.value", test_split="").rows(0)
    write_rows(tmp_path / "heap/one/some.jsonl", [{"q": "1?", "a": "1"}])
    write_rows(tmp_path / "heap/two/other.jsonl", [{"b": "2"}])
    heap = HuggingFace(str(tmp_path / "heap"), prompt="q", answer="a", test_split="", files={"train": "one/*.jsonl"})
    assert [r["prompt"] for r in heap.rows(0)["train"]] == ["1?"]
    with pytest.raises(UserError, match="column 'said' is list, not text"):
        HuggingFace(str(tmp_path / "chats"), prompt="said", answer="gold.value", test_split="").rows(0)


def test_hf_has_sets_to_evaluate_on_alone_and_prompts_alone(tmp_path, offline):
    import datasets

    rows = [{"q": f"{i}?", "a": str(i)} for i in range(4)]
    datasets.DatasetDict(train=datasets.Dataset.from_list(rows)).save_to_disk(tmp_path / "aime")
    parts = HuggingFace(str(tmp_path / "aime"), prompt="q", answer="a", train_split="", test_split="train").rows(0)
    assert parts["train"] == [] and [r["answer"] for r in parts["test"]] == ["0", "1", "2", "3"]
    parts = HuggingFace(str(tmp_path / "aime"), prompt="q", answer="", test_split="").rows(0)
    assert [(r["answer"], r["solution"]) for r in parts["train"]] == [("", "")] * 4


def test_hf_reads_rows_of_a_kind_alone_and_a_saved_split_to_evaluate_on(tmp_path, offline):
    import datasets

    rows = [{"q": f"{i}?", "a": str(i), "of": {"level": f"L{i % 3}"}, "domain": "ab"[i % 2]} for i in range(12)]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "all")
    read = lambda **how: HuggingFace(str(tmp_path / "all"), prompt="q", answer="a", **how).rows(0)
    parts = read(test_split="", where={"domain": "b", "of.level": "L1"})
    assert [r["answer"] for r in parts["train"]] == ["1", "7"]
    assert len(read(test_split="", where={"domain": "b"}, train_rows=4)["train"]) == 4
    assert [r["answer"] for r in read(train_split="", where={"of.level": "L2"})["test"]] == ["2", "5", "8", "11"]
    with pytest.raises(UserError, match="no rows in this split"):
        read(test_split="", where={"domain": "c"})
    with pytest.raises(UserError, match=r"column 'of\.rank' is missing"):
        read(test_split="", where={"of.rank": "L2"})


def test_hf_leaves_out_solutions_that_are_too_long_and_says_so(tmp_path, offline, capsys):
    import datasets

    rows = [{"q": f"{i}?", "a": "7" * i} for i in range(1, 6)]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "texts")
    parts = HuggingFace(str(tmp_path / "texts"), prompt="q", answer="a", test_split="", longest=3).rows(0)
    assert [r["prompt"] for r in parts["train"]] == ["1?", "2?", "3?"]
    assert "texts:train: left out 2 of 5 rows, whose solution has more than 3 characters" in capsys.readouterr().out


def test_continued_cuts_texts_into_a_prompt_and_what_follows(tmp_path, offline, capsys):
    write_rows(
        tmp_path / "texts/train.jsonl", [{"text": t} for t in ("one two  three\nfour five six", "one two", "a b c d e f g h")]
    )
    write_rows(tmp_path / "texts/test.jsonl", [{"text": t} for t in ("one two other", "x y z")])
    parts = Continued(HuggingFace(str(tmp_path / "texts"), prompt="text", answer=""), begin=8, more=8).rows(0)
    assert [(r["id"], r["prompt"], r["solution"]) for r in parts["train"]] == [
        ("train-0", "a b c d", " e f g h")
    ]  # one two is test's
    assert [(r["prompt"], r["answer"], r["corpus"]) for r in parts["test"]] == [("one two", " other", " other")]
    assert "train: left out 1 of 3 texts, which end with their prompt" in capsys.readouterr().out
    alone = Continued(HuggingFace(str(tmp_path / "texts"), prompt="text", answer="", test_split=""), begin=8, more=13).rows(0)
    assert [(r["prompt"], r["solution"]) for r in alone["train"]] == [("one two", "  three\nfour"), ("a b c d", " e f g h")]


@pytest.mark.parametrize(
    ("text", "size", "found"),
    [
        ("one two", 7, "one two"),
        ("one two ", 7, "one two"),
        ("one two", 6, "one"),
        ("one two", 3, "one"),
        ("longer word", 4, "long"),
        (" longer", 4, " lon"),
        ("\u4e00\u4e8c\u4e09", 7, "\u4e00\u4e8c"),
        ("\u4e00 \u4e8c\u4e09", 9, "\u4e00"),
    ],
)
def test_what_fits_are_whole_words_and_characters(text, size, found):
    assert fitting(text, size) == found and len(found.encode()) <= size
