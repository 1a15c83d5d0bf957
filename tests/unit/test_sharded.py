"""Questions told in shards: what each turn sees, that the last one alone is a row's, and the canonical teacher's loss (arXiv 2605.30251)."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf

from opd_steps.analyses._context import Context
from opd_steps.analyses.presentation_gap import PresentationGap
from opd_steps.config.merge import merge
from opd_steps.errors import UserError
from opd_steps.graph.checked import checked
from opd_steps.graph.method import Method
from opd_steps.graph.nodes import Graph as Nodes
from opd_steps.loop.objective import Objective
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.models.tokenizers import byte_tokenizer, char_tokenizer
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.stream import Moment
from opd_steps.seeds import derive
from opd_steps.tasks.asking import Task
from opd_steps.tasks.errands import Errand, Graph
from opd_steps.tasks.shard_pool import ShardPool
from opd_steps.tasks.sources.sentence_shards import SentenceShards
from opd_steps.tasks.sources.walk import Walk
from opd_steps.tasks.sources.walk_shards import WalkShards
from opd_steps.tasks.verifiers.walk import Walk as Verifier
from opd_steps.tasks.worlds.sharded import Sharded
from opd_steps.teachers.contexts.canonical import Canonical
from tests.pipeline.stages import Stages
from tests.unit.tiny import qwen

RING = Graph("abbccddeeffa" + "ad")
LETTERS = char_tokenizer("abcdef>:")
TASK = Task({"name": "walk"}, {"name": "none"}, False, None)
ERRANDS = [Errand("a", "cd", RING), Errand("b", "dea", RING), Errand("c", "f", RING)]
ROWS = [
    {"id": e.prompt, "prompt": e.prompt, "answer": str(e), "solution": "", "meta": {"shards": s}}
    for e, s in zip(ERRANDS, [["a>d:", ">c:"], ["b>a:", ">d:", ">e:"], ["c>f:"]], strict=True)
]
WALK = Walk(nodes=9, chords=2, starts=3, way_points=2, held_out=0.25, train=120, test=30, ood=20)


def pool(form: str = "raw", tokenizer=LETTERS, task: Task = TASK, **options) -> ShardPool:
    return ShardPool(ROWS, task, tokenizer, "here", form, **{"turns": 3, "told": 30, **options})


def text(ids, tokenizer=LETTERS) -> str:
    return tokenizer.decode(list(ids))


@dataclass
class Says:
    """A policy that says what it is told to, turn by turn, and notes what it saw."""

    replies: list[str]
    tokenizer: object = LETTERS
    end: bool = True
    seen: list = field(default_factory=list)

    def rollout(self, contexts, ids, seeds, version=0) -> Trajectory:
        reply = self.replies[len(self.seen)]
        self.seen.append((list(ids), [text(c, self.tokenizer) for c in contexts], list(seeds), version))
        tokens = self.tokenizer.encode(reply, add_special_tokens=False) + [self.tokenizer.eos_token_id] * self.end
        actions = [torch.tensor(tokens)] * len(contexts)
        rows = Trajectory([list(c) for c in contexts], actions, torch.tensor(ids), [torch.zeros(len(a)) for a in actions])
        return rows.with_columns(
            version_B=torch.full((len(ids),), version), ended_B=torch.full((len(ids),), self.end), reward_B=None
        )


def test_each_turn_sees_the_talk_before_it_and_the_last_one_is_the_row():
    policy = Says(["ba", "cd", "bcd"])
    rows = pool().play(policy, [0, 1, 2, 0], [5, 6, 7, 8], version=4)
    assert [ids for ids, *_ in policy.seen] == [[0, 1, 0], [1], [0, 1, 2, 0]]  # whoever is told more goes on
    assert policy.seen[0][1] == ["a>d:", "b>a:", "a>d:"] and policy.seen[1][1] == ["b>a:ba>d:"]
    last = ["a>d:ba>c:", "b>a:ba>d:cd>e:", "c>f:", "a>d:ba>c:"]
    assert policy.seen[2][1] == [text(c) for c in rows.contexts] == last
    assert policy.seen[0][2] == [derive(s, "turn", 0) for s in (5, 6, 8)] and policy.seen[1][2] == [derive(6, "turn", 1)]
    assert policy.seen[2][2] == [5, 6, 7, 8] and {version for *_, version in policy.seen} == {4}
    assert [text(a[:-1]) for a in rows.actions] == ["bcd"] * 4 and rows.heard is None
    assert rows.reward_B.tolist() == [1.0, 0.0, 0.0, 1.0]  # by the question as a whole


def test_a_reply_that_was_cut_stands_as_it_is():
    policy = Says(["ba", "bcd"], end=False)
    pool().play(policy, [0], [5])
    assert policy.seen[1][1] == ["a>d:ba>c:"]


@pytest.mark.parametrize(
    ("form", "sees"),
    [
        ("full", ["a>c>d:", "b>d>e>a:", "c>f:"]),
        ("concat", ["a>d:>c:", "b>a:>d:>e:", "c>f:"]),
        ("raw", ["a>d:", "b>a:", "c>f:"]),
    ],
)
def test_presentations(form, sees):
    here = pool(form)
    assert [text(c) for c in here.contexts([0, 1, 2])] == sees
    if form != "raw":
        policy = Says(["bcd"])
        assert [text(c) for c in here.play(policy, [0, 1, 2], [1, 2, 3]).contexts] == sees and len(policy.seen) == 1
    canonical = Canonical().prepare(here.play(Says(["b"] * 3), [1, 0], [1, 2]), here, 0, "t").extra["context:t"]
    assert [text(c) for c in canonical] == ["b>d>e>a:", "a>c>d:"]


def test_in_a_chat_each_shard_is_a_turn_and_the_system_speaks_once():
    tokenizer = byte_tokenizer()
    policy = Says(["ba", "bcd"], tokenizer)
    here = pool(tokenizer=tokenizer, task=Task({"name": "walk"}, {"name": "none"}, True, "Walk."))
    rows = here.play(policy, [0], [5])
    turn = lambda said: f"<|im_start|>user\n{said}<|im_end|>\n<|im_start|>assistant\n"
    shown = text(rows.contexts[0], tokenizer)
    assert shown == "<|im_start|>system\nWalk.<|im_end|>\n" + turn("a>d:") + "ba" + tokenizer.eos_token + turn(">c:")


@pytest.mark.parametrize("options", [{"turns": 2}, {"told": 2}])
def test_a_talk_beyond_the_room_that_was_promised_is_refused(options):
    with pytest.raises(UserError, match=r"has 3 turns of up to 3 tokens; the task says"):
        pool(**options).play(Says(["ba"] * 3), [1], [0])


def test_room():
    assert Sharded("raw", 3, 4).room(10) == 42 and Sharded("full", 3, 4).room(10) == 22
    longest = 4 + 2 * (10 + 4) + 10  # a first shard, two replies with a further shard each, the answer
    assert longest <= 4 + Sharded("raw", 3, 4).room(10)


def test_shards_of_errands_and_talks_of_the_corpus():
    source = WalkShards(WALK, talk=0.7, anchored=0.5, joined=0.2)
    made, plain = source.rows(3), WALK.rows(3)
    assert made == source.rows(3)
    counts = {"plain": 0, "joined": 0, "first": 0, "again": 0, "anew": 0}
    for split, rows in made.items():
        for row, bare in zip(rows, plain[split], strict=True):
            errand, shards = Errand.read(row["answer"]), row["meta"]["shards"]
            stops = [shards[0][2], *(s[1] for s in shards[1:])]
            assert (errand.start, errand.stops) == (shards[0][0], "".join(stops[1:] + stops[:1]))
            if "corpus_prompt" not in row:
                counts["plain"] += 1
                assert row == bare | {"meta": bare["meta"] | {"shards": shards}}
                continue
            assert split == "train"
            if row["corpus_prompt"] == "".join(shards):
                counts["joined"] += 1
                assert row["corpus"] == bare["corpus"]
                continue
            rest, replies = row["corpus_prompt"], []
            for turn, shard in enumerate(shards):
                assert rest.startswith(shard)
                reply, more, rest = rest.removeprefix(shard).partition(shards[turn + 1] if turn + 1 < len(shards) else "!")
                known = Errand(errand.start, errand.stops[:turn] + errand.stops[-1], errand.graph)
                if not more:
                    break
                assert Verifier().score(reply, str(known)) == 1
                replies.append(reply)
                rest = more + rest
            right = Verifier().score(row["corpus"], str(known))
            if not replies:
                counts["first"] += 1
                assert right
            elif row["corpus"] == replies[-1]:
                counts["again"] += 1
            else:
                counts["anew"] += 1
                assert right
    assert counts["joined"] > 10 and counts["first"] > 15 and counts["again"] > 15 and counts["anew"] > 15


def test_sentences():
    told = SentenceShards(WALK, most=3).shards
    assert told("Al has 1.5 pies. He eats one. How many are left?") == [
        "How many are left?",
        "Al has 1.5 pies.",
        "He eats one.",
    ]
    assert told("How many? He has 2. She has 3. It is 4.") == ["How many?", "He has 2.", "She has 3. It is 4."]
    assert told("Add 2 and 3") == ["Add 2 and 3"] and told("Take 5. Add 2.") == ["Add 2.", "Take 5."]


def policy(seed: int, train: bool = False) -> LMPolicy:
    return LMPolicy(qwen(LETTERS.vocab_size, seed, layers=1).requires_grad_(train), LETTERS, max_new_tokens=5)


def by_formula(student: LMPolicy, teacher: LMPolicy, rows: Trajectory) -> list[torch.Tensor]:
    """KL(student behind its talk || teacher behind the whole question) of each answer's tokens, from bare logits."""
    found = []
    for context, actions, prompt in zip(rows.contexts, rows.actions, rows.prompt_B.tolist(), strict=True):
        logp = []
        for model, seen in ((student.model, context), (teacher.model, LETTERS.encode(ROWS[prompt]["prompt"]))):
            logits = model(torch.tensor([[*seen, *actions.tolist()]])).logits[0, len(seen) - 1 : -1, : LETTERS.vocab_size]
            logp.append(logits.log_softmax(-1))
        found.append(F.kl_div(logp[1].detach(), logp[0], reduction="none", log_target=True).sum(-1))
    return found


@pytest.mark.parametrize("aggregate", ["seq_mean", "seq_sum"])
def test_the_loss(aggregate):
    student, teacher, here = policy(0, True), policy(1), pool()
    rows = Canonical().prepare(here.play(student, [0, 1, 2, 1], [1, 2, 3, 4]), here, 0, "full")
    rows_kl = by_formula(student, teacher, rows)
    torch.stack([kl.mean() if aggregate == "seq_mean" else kl.sum() for kl in rows_kl]).mean().backward()
    grads = lambda: torch.cat([p.grad.flatten().clone() for p in student.model.parameters()])
    expected = grads()
    student.model.zero_grad(set_to_none=True)
    method = {"against": "full", "signal": "rkl", "support": "full", "estimator": "exact", "aggregate": aggregate}
    term = Objective.from_method(merge(Method, method, "test"), 5)
    term.backward(student, rows, {}, {"full": teacher}, 3, Moment(window=5))
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(grads(), expected, atol=1e-5, rtol=0)


def test_identical_contexts_have_no_loss():
    """A question of one shard, or asked in full, with the weights of the start."""
    for form, ids in (("raw", [2]), ("full", [0, 1, 2])):
        here, student = pool(form), policy(0)
        rows = Canonical().prepare(here.play(student, ids, ids), here, 0, "full")
        assert max(float(kl.abs().max()) for kl in by_formula(student, student, rows)) < 1e-6
        assert (
            PresentationGap(Canonical()).measure(Context({"model": student, "other": student}, here, 0))["gap/kl"] > 0
            or form == "full"
        )
    found = PresentationGap(Canonical()).measure(Context({"model": student, "other": student}, pool("full"), 0))
    assert abs(found["gap/kl"]) < 1e-6


def test_the_gap_is_the_formulas_mean():
    one, other, here = policy(0), policy(1), pool()
    ctx = Context({"model": one, "other": other}, here, 0)
    with torch.no_grad():
        expected = torch.cat(by_formula(one, other, ctx.rollouts("model"))).double().mean()
        assert PresentationGap(Canonical()).measure(ctx)["gap/kl"] == pytest.approx(float(expected), rel=1e-4)


def test_splits_are_written_with_shards_and_other_sources_refused(tmp_path):
    source = {"name": "walk", "nodes": 9, "chords": 2, "starts": 3, "way_points": 2, "train": 60, "test": 9, "ood": 5}
    stages, task = Stages(tmp_path), {"name": "sharded", "turns": 3, "told": 3}
    made = stages.run("talks", "data", source={"name": "walk_shards", "of": source}, verifier="walk", task=task)
    here = Sharded(turns=3, told=3).pool(
        tmp_path / "p/data/talks/seed0", "test", Says([], char_tokenizer(made["facts"]["alphabet"]))
    )
    assert all(len(here.column("shards", i)) == 3 for i in range(9)) and {len(c) for c in here.contexts(range(9))} == {4}
    with pytest.raises(UserError, match="source: expected one that tells shards"):
        stages.run("other", "data", source=source, verifier="walk", task=task)


def test_it_is_played_not_asked_once(tmp_path):
    nodes = {
        "talks": {"kind": "data", "task": "sharded", "source": "walk_shards", "verifier": "walk"},
        "init": {"kind": "model", "data": "talks", "config": {"hidden_size": 32}},
        "x": {"kind": "evaluate", "model": "init", "data": "talks"},
    }
    OmegaConf.save({"paper": {"title": "t"}, "nodes": nodes}, tmp_path / "toy.yaml")
    with pytest.raises(UserError, match=r"x.suite: 'lm_eval' asks once, and the task 'sharded'"):
        checked(Nodes([str(tmp_path / "toy.yaml")]))
