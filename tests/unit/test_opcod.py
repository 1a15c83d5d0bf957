"""OPCoD (arXiv 2606.14368): who may tutor, what is left of a feedback, what the self-teacher is shown, and what a round's updates see."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from opd_steps.errors import UserError
from opd_steps.graph.train_metrics import opd_curves
from opd_steps.judges.tutor import Tutor
from opd_steps.nouns.bench import Bench
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.seeds import rng
from opd_steps.tasks.errands import Errand
from opd_steps.tasks.feedback import anchored, kept
from opd_steps.tasks.hints.marks import Marks
from opd_steps.tasks.sources.domains import Domains
from opd_steps.tasks.sources.tutored import Tutored as Lessons
from opd_steps.tasks.sources.walk import Walk
from opd_steps.tasks.verifiers.walk import Walk as Verifier
from opd_steps.teachers.contexts.tutored import Tutored
from tests.unit.opd_toys import Killed, curve, node, read_weights, run
from tests.unit.test_teacher_checks import build

WALK = Walk(nodes=8, chords=2, starts=4, train=40, test=8, ood=0)
OTHER = "model/end/seed5"


def substrings(text: str) -> list[str]:
    return [text[i:j] for i in range(len(text)) for j in range(i + 1, len(text) + 1)]


def test_what_is_kept_of_a_feedback_never_gives_the_answer_away():
    """Every stretch of what is left, for feedback with right walks in it, alone, twice, run into others, and for noise."""
    draw, verifier, cut = rng(0), Verifier(), 0
    for row in WALK.rows(0)["train"]:
        errand = Errand.read(row["answer"])
        tells = lambda text, answer=row["answer"]: verifier.score(text, answer) > 0
        walk, noise = row["solution"], "".join(draw.choice(list("abcdefgh="), 6))
        for said in (walk, f"k={walk}", f"{noise}{walk}{noise}", f"{walk}{walk}", f"{walk}={walk}", noise, noise[:3] + walk):
            left = kept(said, tells, r"\w", 32)
            assert not any(errand.right(part) for part in substrings(left)), (said, left)
            cut += left != said
    assert cut > 200
    assert kept("k=jm", lambda text: False, r"\w", 32) == "k=jm"


def test_in_words_the_stated_answer_is_cut():
    tells = lambda text: text.strip(".!") == "42"
    assert kept("Mind the remainder. It is 42. Then 42!", tells, r"\S+", 1) == "Mind the remainder. It is  Then"
    assert kept("42", tells, r"\S+", 1) == ""


def test_a_feedback_is_anchored_in_the_question():
    assert anchored("k=jm", "a>k>q:", r">(\w)") and not anchored("a=bc", "a>k>q:", r">(\w)")
    assert anchored("Momentum is conserved", "What is the momentum of a car?", r"[^\W\d_]{7,}")
    assert not anchored("Think again", "What is the momentum of a car?", r"[^\W\d_]{7,}")


class Pool:
    """Rows are texts; a prompt 'p>k:' is answered by 7."""

    def __init__(self):
        self.rows = [{"prompt": f"{name}>k:", "answer": "7"} for name in "pqr"]
        verifier = SimpleNamespace(score=lambda text, answer: float(text == answer))
        verifier.of_row = lambda row: verifier
        self.task, self.tokenizer = SimpleNamespace(verifier=verifier, prompt_ids=lambda _, text: text), None

    def show(self, rows: Trajectory) -> list[str]:
        return ["".join(map(chr, action.tolist())) for action in rows.actions]

    def hinted(self, index: int, right=(), wrong=(), note="") -> str:
        return Marks().hinted_prompt(self.rows[index]["prompt"], right, wrong, note)


def rows(*made: tuple[int, str, float]) -> Trajectory:
    prompts, texts, rewards = zip(*made, strict=True)
    actions = [torch.tensor([ord(c) for c in text], dtype=torch.long) for text in texts]
    contexts = [Pool().rows[p]["prompt"] for p in prompts]
    return Trajectory(
        contexts, actions, torch.tensor(prompts), reward_B=torch.tensor(rewards), version_B=torch.zeros(len(made))
    )


class Speaker:
    """A policy that says what it is told to, and keeps what it was asked."""

    def __init__(self, says: list[str]):
        self.says = says

    def rollout(self, contexts, prompts, seeds, version):
        self.asked, self.seeds = contexts, seeds
        return rows(*((p, text, 0.0) for p, text in zip(prompts, self.says, strict=True)))


MINE = rows((0, "ab", 0.0), (0, "7", 1.0), (1, "x", 0.0), (1, "y", 0.0), (2, "7", 1.0), (2, "7", 1.0))
THEIRS = rows((0, "wrong", 0.0), (0, "7", 1.0), (1, "n", 0.0), (1, "m", 0.0), (2, "7", 1.0), (2, "8", 0.0))


def judged(gate: float, says: list[str], name: str = ""):
    speaker, pair = Speaker(says), {"": MINE, "peer": THEIRS}
    learners = {"": None, "peer": speaker} if not name else {"": speaker, "peer": None}
    tutor = Tutor(gate=gate, ask=Marks(right="+", wrong="-"), concept=r">(\w)", unit=r"\w", run=8)
    found, figures = tutor.judge(pair[name], Bench(learners, {}, Pool(), 8, 0, name=name, rows=pair))
    return speaker, found, figures


def test_only_a_tutor_who_knows_is_asked_and_shown_its_own_right_sample():
    """Pass rates of the peer are 1/2, 0 and 1/2."""
    speaker, found, figures = judged(0.5, ["k=a", "7", "nothing", "k7k"])
    assert speaker.asked == ["+7|-ab|p>k:", "+7|-7|p>k:", "+7|-7|r>k:", "+7|-7|r>k:"]
    assert found.extra["feedback"] == ["k=a", "", "", "", "", "kk"]  # told all, silent twice, named nothing, told a part
    assert figures == {"known": 4 / 6, "accepted": 2 / 4, "leaks": 2 / 4}
    assert found.reward_B.equal(MINE.reward_B) and len(set(speaker.seeds)) == 4


def test_without_a_gate_all_are_asked_and_the_first_sample_stands_in_for_a_right_one():
    speaker, found, figures = judged(0.0, ["k"] * 6)
    assert speaker.asked[2:4] == ["+n|-x|q>k:", "+n|-y|q>k:"] and figures["known"] == 1
    assert found.extra["feedback"] == ["k"] * 6


def test_the_student_tutors_its_peer_by_its_own_samples():
    speaker, _, figures = judged(1.0, ["k"] * 2, name="peer")
    assert speaker.asked == ["+7|-7|r>k:", "+7|-8|r>k:"] and figures["known"] == 2 / 6
    assert judged(1.0, [])[2] == {"known": 0, "accepted": 0, "leaks": 0}


def test_the_self_teacher_sees_another_right_sample_of_its_own_and_the_feedback():
    shown = Tutored().prepare(MINE.with_columns(extra={"feedback": ["k=a", "k=b", "k=c", "", "", "k=d"]}), Pool(), 0, "t")
    assert shown.extra["context:t"] == ["!7|k=a|p>k:", "k=b|p>k:", "k=c|q>k:", "q>k:", "!7|r>k:", "!7|k=d|r>k:"]
    assert shown.has_context_B("t").tolist() == [True, True, True, False, True, True]  # the mask `told`
    with pytest.raises(UserError, match="judges"):
        Tutored().prepare(MINE, Pool(), 0, "t")


TUTORED = {
    "teachers": {
        "own": {"model": "self", "weights": {"name": "ema", "rate": 0.05}, "context": "tutored"},
        "other": {"model": "self:peer", "weights": {"name": "ema", "rate": 0.05}, "context": "tutored"},
    },
    "judges": [{"name": "tutor", "gate": 0.0, "ask": "marks", "concept": ".", "unit": "."}],
    "sampling": {"n": 4},
}
METHOD = {"where": ["told"], "signal": {"name": "jsd", "beta": 0.5}, "support": "full", "estimator": "exact"}


def taught(folder, kill_at: int = 0, **changes):
    parents = {"teacher": None, "reference": None, "learners.peer.model": OTHER}
    parents |= {"teachers.own.model": "model/student/seed0", "teachers.other.model": OTHER}
    peer = {"method": METHOD | {"against": "other"}, "optim": {"lr": 0.01}}
    options = TUTORED | {"method": METHOD | {"against": "own"}, "learners": {"peer": peer}} | changes
    return run(folder, kill_at, parents=parents, **options)


def test_updates_of_a_round_see_the_rollouts_and_feedback_of_that_round_alone(tmp_path):
    """The peer is updated after the student. In the first round it moves alike whether the student moved or not; later it does not."""
    weights = lambda folder: read_weights(tmp_path / folder / "p/opd/toy/seed3/parts/peer")
    for steps in (1, 6):
        taught(tmp_path / f"moves{steps}", steps=steps)
        taught(tmp_path / f"still{steps}", steps=steps, optim={"lr": 0.0})
    for steps, same in ((1, True), (6, False)):
        one, other = weights(f"moves{steps}"), weights(f"still{steps}")
        assert all(torch.equal(one[name], other[name]) for name in one) == same


def test_both_learners_figures_and_a_resumed_run(tmp_path):
    whole = taught(tmp_path / "whole")
    names = [f"{name}{figure}" for name in ("", "peer/") for figure in ("known", "accepted", "leaks")]
    promised = opd_curves(node(learners={"peer": {"model": "other", "method": METHOD}}, **TUTORED))
    assert all(len(curve(whole.metrics, name)) == 8 and name in promised for name in names)
    assert max(curve(whole.metrics, "accepted")) > 0 and curve(whole.metrics, "known") == [1.0] * 8
    with pytest.raises(Killed):
        taught(tmp_path / "broken", 5)
    resumed = taught(tmp_path / "broken")
    assert resumed.metrics == whole.metrics
    assert all(torch.equal(resumed.weights[name], value) for name, value in whole.weights.items())


def test_lessons_teach_to_use_and_to_give_feedback():
    lessons = Lessons(WALK, hints=Marks(), ask=Marks("+", "-"), demo=0.25, note=0.25, both=0.25, asked=0.25)
    plain, kinds, verifier = {row["prompt"]: row for row in WALK.rows(0)["train"]}, set(), Verifier()
    line = lambda prompt, walk: walk[walk.index(prompt[2]) :]
    for row in lessons.rows(0)["train"]:
        prompt, solution, corpus = row["prompt"], plain[row["prompt"]]["solution"], row["corpus"]
        *shown, asked = row["corpus_prompt"].split("|")
        assert asked == prompt and row["solution"] == solution
        kinds.add("".join(part[0] if part[0] in "!+-" else "=" for part in shown))
        if shown[0][0] == "+":
            assert verifier.score(shown[0][1:], row["answer"]) and corpus == line(prompt, shown[0][1:])
        else:
            assert verifier.score(corpus, row["answer"])
            assert shown[-1] == (line(prompt, corpus) if shown[-1][0] != "!" else f"!{corpus}")
    assert kinds == {"!", "=", "!=", "+-"} and len(lessons.rows(0)["train"]) == 40
    assert len(Lessons(WALK, hints=Marks(), ask=Marks(), times=3).rows(0)["train"]) == 120


def test_lessons_of_the_second_domain_are_written_in_its_capitals():
    lessons = Lessons(WALK, hints=Marks(), demo=0.0, note=1.0, both=0.0, asked=0.0)
    shown = {row["meta"]["domain"]: row["corpus_prompt"] for row in Domains(lessons, lessons, capitals=True).rows(0)["train"]}
    assert shown["one"].islower() and shown["other"].isupper()


@pytest.mark.parametrize(("judge", "learners"), [("tutor", "peer"), ("discriminator", "critic")])
def test_a_judge_asks_a_learner_of_the_node(tmp_path, judge, learners):
    known = {"teacher": "one", "learners": {learners: {"model": "two"}}}
    build(tmp_path, judges=[{"name": judge, "learner": learners}], **known)
    with pytest.raises(UserError, match=rf"x.judges\[1\].learner: no learner 'nobody' in this node; it has {learners}"):
        build(tmp_path, judges=["overlong", {"name": judge, "learner": "nobody"}], **known)
