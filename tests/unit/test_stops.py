"""Stop strings: where a row ends by hand, whoever samples it; what is judged of it, kept of it, and refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from opd_steps.config.load import load_root
from opd_steps.errors import UserError
from opd_steps.graph.checks.stops import check_stops
from opd_steps.graph.code import FAMILIES, used_plugs
from opd_steps.graph.nodes import Graph
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.models.tokenizers import byte_tokenizer
from opd_steps.nouns.batch import Batch
from opd_steps.nouns.columns import pack, unpack
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.weights.not_end import NotEnd
from opd_steps.rollout.local import decode
from opd_steps.rollout.stops import Growing, Stops, before, found
from opd_steps.rollout.table import read_rollouts, write_rollouts
from opd_steps.tasks.asking import Task
from opd_steps.tasks.by_turn import by_turn
from opd_steps.tasks.pool import PromptPool
from opd_steps.tasks.turns import Reply, converse
from tests.unit.tiny import qwen

ROOT = Path(__file__).parents[2]
PIECES = ["a", "b", "Q", ":", "\n", "\n\n", "\nQ", "</", "s>", "s>!", "é", "ab", "<mark>", "<end>"]
MARK, END = PIECES.index("<mark>"), PIECES.index("<end>")
STRINGS = ("\n\nQ:", "</s>", "bb")


class Pieces:
    """A tokenizer of these pieces, of which two are special."""

    eos_token_id = pad_token_id = END
    all_special_ids = (MARK, END)
    added_tokens_decoder = {i: SimpleNamespace(content=PIECES[i], special=True) for i in (MARK, END)}  # noqa: RUF012

    def __len__(self) -> int:
        return len(PIECES)

    def decode(self, ids, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool = True) -> str:
        return "".join(PIECES[i] for i in ids if not (skip_special_tokens and i in self.added_tokens_decoder))


def ids(*pieces: str) -> list[int]:
    return [PIECES.index(piece) for piece in pieces]


def policy(stop=STRINGS) -> LMPolicy:
    """Each token has the same probability."""
    model = qwen(len(PIECES), tie=False)
    torch.nn.init.zeros_(model.lm_head.weight)
    return LMPolicy(model, Pieces(), stop=stop, max_new_tokens=40)


def pool_of(rows: int = 4) -> PromptPool:
    return PromptPool(
        [{"id": str(i), "prompt": "a", "answer": "a"} for i in range(rows)], Task(None, None, False, None), Pieces()
    )


def first_end(tokens: list[int], strings=STRINGS) -> int:
    """By its words: the first token after which the whole text so far holds a string; 0: none."""
    text = lambda n: Pieces().decode(tokens[:n], skip_special_tokens=True)
    return next((n for n in range(1, len(tokens) + 1) if any(s in text(n) for s in strings)), 0)


@pytest.mark.parametrize(
    ("pieces", "end", "kept", "rest"),
    [
        (["a", "</", "s>", "b"], 3, "a", "</s>"),
        (["a", "</", "s>!", "b"], 3, "a", "</s>!"),  # the token that completes it says more: none of it is judged
        (["a", "</", "<mark>", "s>"], 4, "a", "</s>"),  # a special token is no text
        (["\n", "\nQ", ":"], 3, "", "\n\nQ:"),
        (["\n\n", "Q", "b", ":"], 0, "\n\nQb:", ""),
        (["ab", "b", "a"], 2, "a", "bb"),
        (["é", "a"], 0, "éa", ""),
    ],
)
def test_rows_end_with_the_token_that_completes_a_string(pieces, end, kept, rest):
    stops, row = Stops(Pieces(), STRINGS), ids(*pieces)
    assert stops.end(row) == end == first_end(row)
    (tokens,), (logp,), (ended,), (said,) = stops.cut([torch.tensor(row)], [torch.zeros(len(row))], [False])
    assert (tokens.tolist(), len(logp), ended, said) == (row[: end or None], len(tokens), bool(end), rest)
    assert before(stops.text(row), STRINGS) == kept


def test_of_several_the_first_that_is_whole_counts():
    assert found("xabc", ["abc", "b"]) == 2 and found("xabc", ["abc", "xab"]) == 0
    assert found("ab", ["b", "ab"]) == 1 and found("ab", ["ab", "b"]) == 0  # whole at once: as they are listed, as in vLLM
    assert found("ab", []) is None and before("ab", []) == "ab"


@given(
    st.lists(st.integers(0, len(PIECES) - 1), max_size=40),
    st.sets(st.sampled_from([*STRINGS, "a", "Q:", "é\n", "ba"]), min_size=1),
)
def test_any_row_ends_where_its_text_first_holds_one(row, strings):
    assert Stops(Pieces(), tuple(strings)).end(row) == first_end(row, strings)


@pytest.mark.parametrize("batch", [1, 7, 60])
def test_the_local_engine_ends_rows_there_whatever_their_batch(batch):
    """They are those that nothing ends, cut: the same tokens and log-probs."""
    contexts, seeds = [[i % 9] for i in range(60)], range(60)
    args = {"max_new_tokens": 40, "ends": [END], "pad_id": END}
    model = policy().model
    whole, logp, by_itself = decode(model, contexts, seeds, **args)
    rows, cut, ended = decode(model, contexts, seeds, **args, batch=batch, stops=Stops(Pieces(), STRINGS))
    ends = [first_end(row.tolist()) for row in whole]
    for row, p, all_T, all_p, end, stopped, alone in zip(rows, cut, whole, logp, ends, ended, by_itself, strict=True):
        assert row.tolist() == all_T[: end or None].tolist() and stopped == (bool(end) or alone)
        torch.testing.assert_close(p, all_p[: len(row)], rtol=1e-5, atol=1e-6)
    assert len({end for end in ends if end}) > 6 and 0 in ends


def test_bytes_of_one_character_end_a_row_with_the_last_of_them():
    """Behind many others, and where the window of the last tokens begins within a character."""
    tokenizer = byte_tokenizer()
    stops, text = Stops(tokenizer, ("日本", "é.")), "ä" * 30 + "日é本日本x"
    row = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert stops.text(row[: stops.end(row)]) == text[:-1]
    growing, at = Growing(stops, 2), torch.tensor([1])
    ended = [bool(growing.add(at, torch.tensor([token]), torch.tensor([False]))) for token in row[: stops.end(row)]]
    assert ended == [False] * (len(row) - 2) + [True] and growing.ends == {1: len(row) - 1}


class Late:
    """An engine that finds stop strings some tokens late, or not at all: what it says is cut."""

    version = 0

    def __init__(self, *rows: list[int]):
        self.rows = rows

    def generate(self, contexts, seeds, **_):
        return (
            [torch.tensor(row) for row in self.rows],
            [-torch.ones(len(row)) for row in self.rows],
            [END in r for r in self.rows],
        )


def sampled(*rows: list[int]) -> Trajectory:
    who = policy()
    who.engine = Late(*rows)
    return who.rollout([[0]] * len(rows), range(len(rows)), range(len(rows)))


ROWS = ids("a", "</", "s>!", "b", "a"), ids("a", "b", "<end>"), ids("a", "b"), ids("a", "</", "s>")


def test_whoever_samples_rows_end_alike_and_their_texts_before_the_string():
    rows = sampled(*ROWS)
    assert [row.tolist() for row in rows.actions] == [ROWS[0][:3], *ROWS[1:]] and rows.logp_N.tolist() == [-1.0] * 11
    assert rows.ended_B.tolist() == [True, True, False, True] and rows.closed_B.tolist() == [False, True, False, False]
    assert rows.stop == ["</s>!", "", "", "</s>"]
    assert pool_of().show(rows) == pool_of().taken(rows) == ["a", "ab", "ab", "a"]
    weight_N, _ = NotEnd().over_batch(rows, {}, None)
    assert weight_N.tolist() == [1.0] * 5 + [0.0] + [1.0] * 5  # of end tokens alone


def test_a_row_that_an_engine_ended_for_nothing_is_asked_for_anew():
    """vLLM finds a string of the prompt, where this ends within a character."""
    who, asked = policy(), []

    def generate(contexts, seeds, stop=(), **_):
        asked.append((contexts, list(seeds), stop))
        whole = [[*ids("a", "b", "</", "s>", "a")], ids("a", "<end>"), ids("b", "Q")]
        rows = [whole[seed][:1] if stop and not seed else whole[seed] for seed in seeds]
        return *Late(*rows).generate(contexts, seeds)[:2], [bool(stop) and seed < 2 for seed in seeds]

    who.engine = SimpleNamespace(version=0, generate=generate)
    rows = who.rollout([[0], [1], [2]], range(3), range(3))
    assert asked == [([[0], [1], [2]], [0, 1, 2], STRINGS), ([[0]], [0], ())]
    assert [row.tolist() for row in rows.actions] == [ids("a", "b", "</", "s>"), ids("a", "<end>"), ids("b", "Q")]
    assert rows.ended_B.tolist() == [True, True, False] and rows.stop == ["</s>", "", ""]


def test_without_stop_strings_nothing_is_read():
    who = policy(stop=())
    who.engine = Late(*ROWS)
    rows = who.rollout([[0]] * 4, range(4), range(4))
    assert rows.stop is None and rows.closed_B is rows.ended_B and rows.actions[0].tolist() == ROWS[0]


def test_what_ended_a_row_survives_buffer_file_and_company(tmp_path):
    rows = sampled(*ROWS)
    assert unpack(pack(Batch(rows))).rows.stop == rows.stop
    write_rollouts(tmp_path, rows, list("abcd"), pool_of().show(rows))
    assert read_rollouts(tmp_path).stop == rows.stop and read_rollouts(tmp_path).rows([3, 0]).stop == ["</s>", "</s>!"]
    plain = rows.with_columns(stop=None)
    assert Trajectory.concat([plain, rows]).stop == [""] * 4 + rows.stop and Trajectory.concat([plain, plain]).stop is None
    assert by_turn(rows).stop == rows.stop


def test_in_several_turns_the_last_one_is_cut():
    """A turn that a stop string ended is answered like any other, and stays as it is."""
    who, turns = policy(), iter([[ROWS[0]], [ROWS[3]]])
    who.engine = SimpleNamespace(version=0, generate=lambda *a, **k: Late(*next(turns)).generate(*a, **k))
    answers = iter([[Reply(3, ids("Q", ":"))], [None]])
    rows = converse(who, [[0]], [0], [0], 0, lambda going, said: next(answers))
    assert rows.ended_B.tolist() == [True] and rows.stop == ["</s>"]
    assert pool_of().show(rows) == ["a</s>!Q:a"]


@pytest.mark.parametrize(
    ("paper", "family"), [("flow_opd", "sd3"), ("masked_opsd", "masked_lm"), ("vla_opd", "vla"), ("draft_opd", "drafter")]
)
def test_models_that_write_no_text_from_left_to_right_are_refused(paper, family, monkeypatch):
    """Where they are trained and where they are measured; a model that sees writes one."""
    for node in nodes(paper, monkeypatch, "opd", "evaluate"):
        maker = node.maker_of(node.says.START or node.says.MEASURES)
        if (FAMILIES, family) in used_plugs(maker.says, maker.options):
            with pytest.raises(UserError, match=rf"x\.(sampling\.)?stop: a {family} model \((student|model)\) writes no text"):
                check_stops(node, "x")
        else:
            check_stops(node, "x")
    for node in nodes("vision_opd", monkeypatch, "opd", "evaluate"):
        check_stops(node, "x")


def nodes(paper: str, monkeypatch, *kinds: str) -> list:
    """The paper's nodes of these kinds, each with a stop string."""
    monkeypatch.chdir(ROOT)
    config = yaml.safe_load((ROOT / "config.yaml").read_text()) | {"papers": [paper]}
    found = [node for node in Graph.of(load_root(config)).nodes.values() if node.kind in kinds]
    sampling = lambda o: {"sampling": o["sampling"] | {"stop": ["b"]}} if "sampling" in o else {"stop": ["b"]}
    return [replace(node, options=node.options | sampling(node.options)) for node in found]


def test_a_special_token_is_in_no_text():
    with pytest.raises(UserError, match=r"'b<end>' is never in a text: '<end>' is a special token"):
        policy(stop=["a", "b<end>"])
