"""Walks in a world where steps slip: the same as when every step is answered at once, and judged by where the steps led."""

from __future__ import annotations

import math
import re
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from scipy.stats import chisquare

from opd_steps.errors import UserError
from opd_steps.graph.checked import checked
from opd_steps.graph.nodes import Graph as Nodes
from opd_steps.graph.row_lengths import Rows
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.models.tokenizers import bpe_tokenizer, char_tokenizer
from opd_steps.nouns.heard import woven
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.seeds import rng
from opd_steps.tasks.asking import Task
from opd_steps.tasks.errands import Errand, Graph
from opd_steps.tasks.pool import PromptPool
from opd_steps.tasks.room import check_rows
from opd_steps.tasks.slip_pool import SlipPool
from opd_steps.tasks.slips import MARK, landed, slipping
from opd_steps.tasks.worlds.walk_slips import WalkSlips
from tests.pipeline.stages import Stages
from tests.unit.tiny import qwen

RING = Graph("abbccddeeffa" + "ad")  # a hexagon with one chord
ERRAND = Errand("a", "cd", RING)
LETTERS = char_tokenizer("abcdef>:" + MARK)
TASK = Task({"name": "walk"}, {"name": "none"}, False, None)


def row(solution: str = "bcd", errand: Errand = ERRAND) -> dict:
    return {"prompt": errand.prompt, "answer": str(errand), "solution": solution, "corpus": solution}


def pool(slip: float, rows: list[dict] | None = None) -> SlipPool:
    return SlipPool(rows or [row()], TASK, LETTERS, "here", slip)


class Habits:
    """A policy whose next token depends on the last one alone: a step along an edge or to a, the mark, or the end."""

    def __init__(self, steps: int, greedy: bool = False):
        self.max_new_tokens, self.greedy = steps, greedy
        self.next = {}
        for k, place in enumerate("abcdef"):
            near = [*RING.neighbours[place], "a", LETTERS.eos_token, MARK]
            weights = [1.0 + (k + i) % 3 for i in range(len(near) - 2)] + [0.6, 0.1]
            self.next[place] = (near, [w / sum(weights) for w in weights])
        self.next[MARK] = (["b", LETTERS.eos_token], [0.5, 0.5])
        self.next[":"] = self.next["a"]

    def after(self, token: str) -> list[tuple[str, float]]:
        names, chances = self.next[token]
        best = max(range(len(names)), key=chances.__getitem__)
        return [(names[best], 1.0)] if self.greedy else list(zip(names, chances, strict=True))

    def rollout(self, contexts, prompt_ids, seeds, version=0) -> Trajectory:
        actions, ended = [], []
        for context, seed in zip(contexts, seeds, strict=True):
            said, draw = [], rng(seed).random(self.max_new_tokens)
            token = LETTERS.convert_ids_to_tokens(context[-1])
            for u in draw:
                names, chances = zip(*self.after(token), strict=True)
                token = names[min(sum(u >= sum(chances[: i + 1]) for i in range(len(chances))), len(names) - 1)]
                said.append(token)
                if token == LETTERS.eos_token:
                    break
            actions.append(torch.tensor(LETTERS.convert_tokens_to_ids(said)))
            ended.append(token == LETTERS.eos_token)
        logp = [torch.zeros(len(a)) for a in actions]
        return Trajectory(contexts, actions, torch.tensor(list(prompt_ids)), logp, ended_B=torch.tensor(ended))


def step_by_step(policy: Habits, slip: float) -> dict[str, float]:
    """Probability of every text, the world asked after each token: the definition, word by word."""
    found: Counter = Counter()

    def go(text: str, last: str, place: str, left: int, chance: float) -> None:
        if not left or last == LETTERS.eos_token:
            found[text] += chance
            return
        for token, p in policy.after(last):
            said = text + (token if token != LETTERS.eos_token else ".")
            if token not in RING.neighbours.get(place, ""):  # no step: he is lost, and nobody answers
                go(said, token, "", left - 1, chance * p)
                continue
            others = RING.neighbours[place].replace(token, "")
            go(said, token, token, left - 1, chance * p * (1 - slip))
            for other in others:
                go(said + MARK + other, other, other, left - 1, chance * p * slip / len(others))

    go("", ":", "a", policy.max_new_tokens, 1.0)
    return found


def texts(rows: Trajectory) -> list[str]:
    whole = [LETTERS.convert_ids_to_tokens(tokens) for tokens in woven(rows)[0]]
    return ["".join("." if token == LETTERS.eos_token else token for token in tokens) for tokens in whole]


def test_drawing_ahead_is_play_step_by_step_in_distribution():
    policy, count, slip = Habits(4), 15000, 0.4
    expected = step_by_step(policy, slip)
    assert math.isclose(sum(expected.values()), 1.0) and any(text.count(MARK) > 2 for text in expected)
    seen = Counter(texts(pool(slip).play(policy, [0] * count, list(range(count)))))
    assert seen.keys() <= expected.keys()
    often = [text for text, p in expected.items() if p * count >= 5]
    rest = count - sum(seen[text] for text in often)
    rest_expected = count - sum(expected[text] * count for text in often)
    assert len(often) > 100
    assert chisquare([*(seen[t] for t in often), rest], [*(expected[t] * count for t in often), rest_expected]).pvalue > 0.001


def test_drawing_ahead_is_play_step_by_step_exactly_where_the_policy_is_greedy():
    policy, count = Habits(6, greedy=True), 200
    rows = pool(0.4).play(policy, [0] * count, list(range(count)))
    for seed, text in enumerate(texts(rows)):
        chance, place, last, said = rng(seed, "slips").random((6, 2)), "a", ":", ""
        for k in range(6):
            ((token, _),) = policy.after(last)
            said += token if token != LETTERS.eos_token else "."
            if token == LETTERS.eos_token:
                break
            last = landed(RING, place, token, 0.4, chance[k]) if token in RING.neighbours.get(place, "") else token
            place = last if token in RING.neighbours.get(place, "") else ""
            said += MARK + last if last != token else ""
        assert text == said
    assert len(set(texts(rows))) > 20


def test_without_slips_it_is_the_plain_walk_to_the_bit():
    policy = LMPolicy(qwen(24, 0), LETTERS, max_new_tokens=8)
    plain = PromptPool([row()], TASK, LETTERS).play(policy, [0] * 50, list(range(50)), 3)
    rows = pool(0.0).play(policy, [0] * 50, list(range(50)), 3)
    for name in ("action_N", "logp_N", "reward_B", "version_B", "ended_B", "prompt_B"):
        assert torch.equal(getattr(rows, name), getattr(plain, name)), name
    assert not any(map(len, rows.heard)) and pool(0.0).show(rows) == PromptPool([row()], TASK, LETTERS).show(plain)


def spoken(*parts: str) -> Trajectory:
    """Rows of texts in which `~x` in brackets is the world's: "bf[~k]q"."""
    actions, heard = [], []
    for part in parts:
        said, told = [], []
        for piece in part.replace("]", "[").split("["):
            theirs = piece.startswith(MARK) and f"[{piece}]" in part
            told += [(len(said), i) for i in LETTERS.convert_tokens_to_ids(list(piece))] if theirs else []
            said += [] if theirs else LETTERS.convert_tokens_to_ids(list(piece))
        actions.append(torch.tensor([*said, LETTERS.eos_token_id]))
        heard.append(torch.tensor(told, dtype=torch.long).view(-1, 2))
    count = len(parts)
    return Trajectory(
        [[0]] * count, actions, torch.zeros(count, dtype=torch.long), ended_B=torch.ones(count, dtype=torch.bool), heard=heard
    )


def test_the_walk_that_took_place_is_judged():
    walks = {
        "bcd": 1.0,
        "b[~f]abcd": 1.0,
        "bc[~a]bcd": 1.0,
        "bcd[~b]cd": 1.0,
        "bcd[~b]": 0.0,
        "bc[~a]d": 0.0,
        "b~fabcd": 0.0,
        "b[~f]cd": 0.0,
    }
    rows = spoken(*walks)
    here = pool(0.3)
    assert here.rewards(rows) == list(walks.values())
    assert here.taken(rows)[1:5] == ["fabcd", "babcd", "bcbcd", "bcb"]
    assert here.show(rows) == [walk.replace("[", "").replace("]", "") for walk in walks]
    judged = here.judge(rows)
    assert here.measure(judged)["detour"] == pytest.approx((0 + 2 + 2 + 2) / 4)  # of the four right ones, over the three steps
    assert here.measure(judged)["way_point"] == pytest.approx(5 / 8)


def test_written_walks_recover_and_show_what_the_world_wrote():
    draw = rng(0, "test")
    errands = [Errand(a, b + c, RING) for a in "abcdef" for b in "abcdef" for c in "abcdef" if len({a, b, c}) == 3]
    solutions = [slipping(errand, 0.3, 0.0, draw) for errand in errands for _ in range(20)]
    here = pool(
        0.3, [row(text, errand) for text, errand in zip(solutions, [e for e in errands for _ in range(20)], strict=True)]
    )
    rows = here.written("solution")
    assert here.rewards(rows.with_columns(ended_B=torch.ones(len(rows), dtype=torch.bool))) == [1.0] * len(rows)
    assert [text.removesuffix(".") for text in texts(rows)] == solutions
    steps, slips = int(rows.length_B.sum()) - len(rows), sum(len(h) for h in rows.heard) // 2
    assert abs(slips / steps - 0.3) < 4 * math.sqrt(0.21 / steps)
    assert not (rows.action_N == here.token[MARK]).any()
    everything = here.written("corpus", "all", corpus=True)
    assert [len(c) for c in everything.contexts] == [1] * len(rows)
    assert everything.rows([0]).action_N.tolist() == [*here.contexts([0])[0][1:], *rows.rows([0]).action_N.tolist()]
    for text, row_ in zip(solutions, here.rows, strict=True):  # from wherever a slip led, by the shortest way
        errand = Errand.read(row_["answer"])
        place, left = errand.start, errand.stops
        for step, led in re.findall(rf"(\w)(?:{MARK}(\w))?", text):
            assert step == RING.toward(place, left[0])
            place = led or step
            left = left.removeprefix(place)
        assert left == ""


def test_without_slips_and_noise_solutions_are_the_sources():
    assert slipping(ERRAND, 0.0, 0.0, rng(0)) == "bcd"


def test_the_splits_are_written_in_the_world(tmp_path):
    source = {"name": "walk", "nodes": 8, "chords": 2, "starts": 4, "train": 120, "test": 10, "ood": 10}
    stages = Stages(tmp_path)
    plain = stages.run("plain", "data", source=source, verifier="walk")
    made = stages.run("slips", "data", source=source, verifier="walk", task={"name": "walk_slips", "slip": 0.3})
    assert set(made["facts"]["alphabet"]) == {*plain["facts"]["alphabet"], MARK} and made["facts"]["task"]["slip"] == 0.3
    policy = SimpleNamespace(tokenizer=char_tokenizer(made["facts"]["alphabet"]))
    folders = [tmp_path / f"p/data/{name}/seed0" for name in ("plain", "slips")]
    one, other = PromptPool.load(folders[0], "train", policy.tokenizer), WalkSlips(0.3).pool(folders[1], "train", policy)
    assert one.contexts(range(120)) == other.contexts(range(120))
    rows = other.written("corpus")
    assert sum(map(len, rows.heard)) > 100
    rates = [row["meta"]["slips"] for row in other.rows]
    assert sum(rates) == sum(row["solution"].count(MARK) for row in other.rows) > 0
    for option, value in (("source", "arithmetic"), ("verifier", "numeric")):
        options = {"source": source, "verifier": "walk", option: value}
        with pytest.raises(UserError, match=f"{option}: the task walk_slips is about walks: expected walk"):
            stages.run(f"no_{option}", "data", task="walk_slips", **options)


def test_preflight_leaves_room_for_what_the_world_writes(tmp_path):
    source = {"name": "walk", "nodes": 8, "chords": 2, "starts": 4, "train": 20, "test": 5, "ood": 5}
    stages, shape = Stages(tmp_path), {"hidden_size": 32, "num_hidden_layers": 1, "max_position_embeddings": 30}
    for name, answer in (("prompts", 9), ("walk_slips", 4 * 9)):
        stages.run(name, "data", source=source, verifier="walk", task=name)
        stages.run(f"for_{name}", "model", {"data": f"data/{name}"}, config=shape)
        model = f"p/model/for_{name}/seed0"
        asked = [Rows("n", f"p/data/{name}/seed0", model, (model,), answer=9)]
        if 6 + answer <= 30:
            assert check_rows(tmp_path, asked)[0][0]["answer"] == answer
            continue
        with pytest.raises(
            UserError, match=r"node n: the longest prompt has 6 tokens .* an answer of up to 36 makes 42; .* 30"
        ):
            check_rows(tmp_path, asked)


def test_a_node_is_one_token():
    merged = bpe_tokenizer("abcdef>:" + MARK, ["bcd"] * 50)
    with pytest.raises(UserError, match="each node as one token"):
        SlipPool([row()], TASK, merged, "here", 0.1)


NODES = {
    "data": {"kind": "data", "task": "walk_slips", "source": "walk", "verifier": "walk", "hints": "marks"},
    "init": {"kind": "model", "data": "data", "config": {"hidden_size": 32}},
    "student": {"kind": "sft", "student": "init", "data": "data"},
    "one": {"kind": "pretrain", "model": "init", "data": "data"},
}
OPD = {"kind": "opd", "student": "student", "data": "data", "teacher": "one"}
LOOK = {"kind": "analyze", "model": "student", "teacher": "one", "data": "data"}
REFUSED = {
    "lm_eval": (
        {"kind": "evaluate", "model": "student", "data": "data"},
        "x.suite: 'lm_eval' asks once, and the task 'walk_slips'",
    ),
    "branches": (LOOK | {"analysis": "prefix_distortion"}, "x.analysis: 'prefix_distortion' goes on from prefixes"),
    "candidates": (LOOK | {"analysis": "alignment"}, "x.analysis: 'alignment' goes on from prefixes"),
    "spans": (
        OPD | {"teacher_source": "spans", "method": {"transform": ["span_sum"]}},
        "x.teacher_source: spans reads texts in another",
    ),
}


@pytest.mark.parametrize("node", [OPD, LOOK | {"analysis": "position_signal"}], ids=["opd", "analysis"])
def test_what_looks_at_rows_alone_is_taken(tmp_path, node):
    check(tmp_path, node)


def check(folder, node) -> None:
    OmegaConf.save({"paper": {"title": "t"}, "nodes": NODES | {"x": node}}, folder / "toy.yaml")
    checked(Nodes([str(folder / "toy.yaml")]))


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_part_in_an_answer_is_refused(tmp_path, name):
    node, said = REFUSED[name]
    with pytest.raises(UserError) as error:
        check(tmp_path, node)
    assert said in str(error.value) and "\n" not in str(error.value)
