"""Debates of teachers (MAD-OPD and OPAD, arXiv 2605.01347): what is said to whom, how often, and what a student learns from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from opd_steps.config.asks import NOTHING
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.models.tokenizers import char_tokenizer
from opd_steps.nouns.dist import Categorical
from opd_steps.nouns.draw import Draw
from opd_steps.nouns.heard import woven
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.estimators.exact import Exact
from opd_steps.objectives.signals.jsd import JSD
from opd_steps.objectives.signals.rkl import ReverseKL
from opd_steps.objectives.stream import Moment
from opd_steps.objectives.supports.full import Full
from opd_steps.objectives.weights.confidence import shares
from opd_steps.prefixes.turns import Turns
from opd_steps.seeds import sample_seeds
from opd_steps.tasks.by_turn import by_turn
from opd_steps.tasks.debate import Debate, hold, stated
from opd_steps.tasks.errands import Errand
from opd_steps.tasks.slip_pool import SlipPool
from opd_steps.tasks.transcripts.hints import Hints
from opd_steps.tasks.transcripts.marks import Marks
from opd_steps.tasks.transcripts.words import Words
from opd_steps.teachers.contexts.debate import Debate as Context
from tests.unit.objectives_toys import gradient
from tests.unit.test_loop_terms import WINDOW, objective, policies, rows_of
from tests.unit.test_walk_slips import ERRAND, LETTERS, RING, TASK, Habits, pool, row
from tests.unit.tiny import qwen

PAPER = OmegaConf.to_container(OmegaConf.load(Path(__file__).parents[2] / "workflow/papers/mad_opd.yaml"))
METHOD = PAPER["nodes"]["mad"]["method"]
WIDE_LETTERS = char_tokenizer("abcdef>:~123|")


@dataclass
class Says:
    """An expert that says its texts one after the other, and notes what it is asked."""

    replies: list[str]
    logp: float = -0.1
    tokenizer: object = WIDE_LETTERS
    asked: list = field(default_factory=list)
    calls: int = 0

    def rollout(self, contexts, prompt_ids, seeds, version=0) -> Trajectory:
        text = self.replies[self.calls]
        self.calls += 1
        self.asked.append([self.tokenizer.decode(list(c)) for c in contexts])
        ids = [*self.tokenizer.encode(text, add_special_tokens=False), self.tokenizer.eos_token_id]
        actions = [torch.tensor(ids)] * len(contexts)
        logp = [torch.full((len(a),), self.logp) for a in actions]
        ended_B = torch.ones(len(actions), dtype=torch.bool)
        return Trajectory(list(contexts), actions, torch.tensor(list(prompt_ids)), logp, ended_B=ended_B)


def errands() -> SlipPool:
    return SlipPool([row(), row("f", Errand("b", "f", RING))], TASK, WIDE_LETTERS, "here", 0.0)


def states(of: SlipPool, said: str = "") -> Trajectory:
    """At the prompts, or behind what was said since; the student's answers are random tokens."""
    ids = list(range(len(of)))
    contexts = [[*c, *of.tokenizer.encode(said, add_special_tokens=False)] for c in of.contexts(ids)]
    return Trajectory(contexts, [torch.tensor([7, 3, 2])] * len(ids), torch.tensor(ids))


def test_gradient_of_jsd_is_bounded_where_the_teacher_finds_a_likely_token_impossible():
    """The lemma: S(v) = 1/2, T(v) = eps -> 0. dRKL/dz grows like log(1/eps), dJSD/dz stays below log 2 (there: 2)."""
    z = torch.tensor([[0.0, 0.0]], dtype=torch.float64)
    size = {JSD: [], ReverseKL: []}
    for power in (1, 4, 16, 64, 256):
        eps = 10.0**-power
        teacher = Categorical(torch.tensor([[math.log(eps), math.log1p(-eps)]], dtype=torch.float64))
        for signal, found in size.items():
            found.append(float(gradient(z, teacher, Exact(), Full(), signal()).abs().max()))
    assert all(x < math.log(2) for x in size[JSD]) and size[JSD][-1] == pytest.approx(size[JSD][-2])
    rkl = size[ReverseKL]
    assert all(
        b - a == pytest.approx(0.25 * math.log(10) * gap, rel=0.06)
        for a, b, gap in zip(rkl, rkl[1:], (3, 12, 48, 192), strict=False)
    )


def test_weights_are_a_softmax_of_confidences_and_alike_where_one_is_missing():
    c = torch.tensor([90.0, 30.0])
    torch.testing.assert_close(shares(c, 1.0), torch.tensor([0.9, 0.3]).softmax(-1))
    torch.testing.assert_close(shares(c, 0.1), torch.tensor([9.0, 3.0]).softmax(-1))
    assert shares(torch.tensor([90.0, float("nan"), 10.0]), 1.0).tolist() == pytest.approx([1 / 3] * 3)
    extreme = shares(torch.tensor([100.0, 0.0]), 1.0)
    assert extreme.tolist() == pytest.approx([0.731, 0.269], abs=1e-3)


@pytest.mark.parametrize(
    "text, found",
    [("a <<CONFIDENCE=7>> b <<CONFIDENCE=80>>", 80), ("none", None), ("<<CONFIDENCE=101>>", None), ("<<CONFIDENCE=0>>", 0)],
)
def test_the_last_stated_confidence_counts(text, found):
    assert stated(text) == found


def test_rounds_of_a_debate_word_by_word():
    """Round 1 answers the prompt alone; in round 2 all see all of round 1 and nothing of their own round; the marks in front of history."""
    first, second = Says(["bcd", "bc"]), Says(["cd", "d"], logp=-2.0)
    held, replies = hold([first, second], errands(), states(errands(), "b~f"), [0, 1], 2, Marks())
    assert first.asked == [["a>c>d:b~f", "b>f:b~f"], ["1bcd|2cd|a>c>d:b~f", "1bcd|2cd|b>f:b~f"]]
    assert second.asked == [first.asked[0], first.asked[1]]
    assert held[0].parts == [[0, 0, "bcd"], [1, 0, "cd"], [0, 1, "bc"], [1, 1, "d"]]
    assert held[0].shown == ["1bcd|2cd|1bc|2d|a>c>d:"] * 2 and held[1].shown[0].endswith("|b>f:")
    assert held[0].verbal == [None, None]
    assert held[0].logprob == pytest.approx([100 * math.exp(-0.1), 100 * math.exp(-2.0)])
    assert len(replies) == 2 and all(len(of_round) == 2 for of_round in replies)
    assert Debate.read(held[0].text()) == held[0]


def test_one_who_debates_alone_gives_hints_that_others_read():
    hints = Hints(ask="Which steps?", lead="Steps:", cue="Go.")
    assert hints.asks("2 + 2?\n", [], 0) == "2 + 2?\n\nWhich steps?"
    assert hints.shows("2 + 2?\n", [(0, 0, "Add them.")], 0) == "2 + 2?\n\nSteps:\n\nAdd them.\n\nGo."


def test_words_are_the_frame_of_the_released_code():
    parts = [(0, 0, "4"), (1, 0, "5 <<CONFIDENCE=9>>")]
    asked = Words().asks("2 + 2?\n", [], 0)
    assert asked.startswith("2 + 2?\n\nYou are Expert A.\n\n") and "<<CONFIDENCE=N>>" in asked and "Debate" not in asked
    debate = "[Debate Start]\n[Expert A Round 1]: 4\n[Expert B Round 1]: 5 <<CONFIDENCE=9>>\n[Debate End]"
    assert f"You are Expert B.\n\n{debate}\n\n" in Words().asks("2 + 2?", parts, 1)
    shown = Words().shows("2 + 2?", parts, 1)
    assert debate in shown and "<<CONFIDENCE=N>>" not in shown


@pytest.mark.parametrize("experts, rounds", [(2, 1), (2, 2), (3, 2)])
def test_k_times_r_generations_a_state(experts, rounds):
    several = [Says(["b"] * rounds) for _ in range(experts)]
    _, replies = hold(several, errands(), states(errands()), [0, 1], rounds, Marks(experts="123"))
    assert [expert.calls for expert in several] == [rounds] * experts
    assert sum(len(rows) for of_round in replies for rows in of_round) == experts * rounds * len(errands())


def test_debaters_see_neither_the_students_answer_nor_a_right_one():
    """Other answers and other solutions in the data: the same debates, to the token."""
    asked = []
    for answer, solution in (([1, 2], "bcd"), ([9, 8, 7], "fed")):
        of, expert = errands(), Says(["bc", "cd"])
        for each in of.rows:
            each["solution"] = each["corpus"] = solution
        there = states(of).with_columns(actions=[torch.tensor(answer)] * len(of))
        held, _ = hold([expert, Says(["d", "d"])], of, there, [0, 1], 2, Marks())
        asked.append((expert.asked, [d.text() for d in held]))
    assert asked[0] == asked[1]


def debated(rows: Trajectory, sure: list[list[float]]) -> Trajectory:
    """Each teacher sees tokens of its own in front; column confidence, as the context writes it."""
    extra = dict(rows.extra)
    for k, name in enumerate(("first", "second")):
        extra[f"context:{name}"] = [[3 + k, 5, *c] for c in rows.contexts]
        extra[f"confidence:{name}"] = [{"expert": k, "verbal": c, "logprob": c} for c in sure]
    return rows.with_columns(extra=extra)


def flat(model) -> torch.Tensor:
    found = torch.cat([p.grad.flatten() for p in model.parameters()])
    model.zero_grad(set_to_none=True)
    return found


class Counted:
    """A teacher that counts the rows that it scores."""

    def __init__(self, policy: LMPolicy):
        self.policy, self.rows = policy, 0

    def dist(self, trajectory, role, asks=NOTHING):
        self.rows += len(trajectory)
        return self.policy.dist(trajectory, role, asks)


def test_divergences_are_averaged_and_not_distributions_and_each_expert_scores_once():
    """grad of sum_k w_k mean_B mean_t KL(S || T_k), T_k behind the transcript and S not; K scorings a row."""
    models = policies()
    rows = rows_of(models["student"], 4, 1)
    sure = [[100.0, 0.0], [20.0, 80.0], [float("nan"), 50.0], [0.0, 0.0]]
    rows = debated(rows, sure)
    teachers = {"first": Counted(models["teacher"]), "second": Counted(models["reference"])}
    stats = objective(**METHOD).backward(models["student"], rows, {}, teachers, 3, Moment(window=WINDOW))
    found = flat(models["student"].model)
    assert [teacher.rows for teacher in teachers.values()] == [len(rows)] * 2
    assert stats["scored"] == stats["add0_scored"] == len(rows)
    total, mixed = 0.0, 0.0
    for b in range(len(rows)):
        weight_K, answer = shares(torch.tensor(sure[b]), 1.0), rows.actions[b].tolist()
        logp = lambda name, context, answer=answer: (
            models[name].model(torch.tensor([[*context, *answer]])).logits[0, len(context) - 1 : -1].log_softmax(-1)
        )
        log_q = logp("student", rows.contexts[b])
        log_p = [logp(n, rows.extra[f"context:{k}"][b]).detach() for k, n in (("first", "teacher"), ("second", "reference"))]
        each = [(log_q.exp() * (log_q - p)).sum(-1).mean() for p in log_p]
        total = total + sum(w * d for w, d in zip(weight_K, each, strict=True)) / len(rows)
        mixture = torch.stack([p + w.log() for p, w in zip(log_p, weight_K, strict=True)]).logsumexp(0)
        mixed = mixed + (log_q.exp() * (log_q - mixture)).sum(-1).mean() / len(rows)
    assert stats["loss"] == pytest.approx(total.item(), rel=1e-4)
    total.backward(retain_graph=True)
    torch.testing.assert_close(found, flat(models["student"].model), rtol=1e-3, atol=1e-6)
    mixed.backward()
    other = flat(models["student"].model)
    assert (found - other).norm() > 0.05 * found.norm()


def test_the_context_puts_the_transcript_before_the_history_and_says_how_sure_all_are():
    of = errands()
    held = [Debate([[0, 0, "bc"]], ["1bc|a>c>d:", "2bc|a>c>d:"], [80.0, None], [50.0, 25.0])] * 2
    of.rows = [r | {"debates": [asdict_of(d)]} for r, d in zip(of.rows, held, strict=True)]
    at = states(of, "b~f").rows([0])
    found = Context(expert=1).prepare(at, of, 0, "second")
    assert of.tokenizer.decode(found.extra["context:second"][0]) == "2bc|a>c>d:b~f"
    (sure,) = found.extra["confidence:second"]
    assert sure["expert"] == 1 and sure["verbal"][0] == 80 and math.isnan(sure["verbal"][1]) and sure["logprob"] == [50, 25]
    assert found.actions[0].tolist() == at.actions[0].tolist() and list(found.contexts[0]) == list(at.contexts[0])


def asdict_of(debate: Debate) -> dict:
    return {k: getattr(debate, k) for k in ("parts", "shown", "verbal", "logprob")}


class Pool:
    """What `turns` asks of a pool, over walks that slip half of the time."""

    def __init__(self):
        self.slips = pool(0.5, [row(), row("bcd~e", ERRAND), row("b~cd", ERRAND)])

    def __getattr__(self, name):
        return getattr(self.slips, name)

    def __len__(self):
        return len(self.slips.rows)


def turns_of(history: str, learner=None, n: int = 2, **options):
    of = Pool()
    draw = Draw(3, 2, [2, 1], n, 0, learner or Habits(6), options.pop("policies", {}), of, of.written)
    return Turns(history=history, **options).rows(draw), of


def test_turns_of_one_trajectory_on_the_students_own_way():
    """Each turn is what the student said between two of the world's answers, behind all that was said before; no decision is lost."""
    batch, of = turns_of("student")
    found = batch.rows
    whole = of.play(Habits(6), *sample_seeds([2, 1], 2, 0, "rollout", 3), 2)
    assert batch.expected == 4 and len(found) > 4
    at = 0
    for i in range(len(whole)):
        tokens, _ = woven(whole.rows([i]))
        mine = []
        while at < len(found) and (not mine or found.extra["turn"][at] > 0):
            before = list(found.contexts[at])[len(whole.contexts[i]) :]
            said = found.actions[at].tolist()
            assert tokens[0][: len(before) + len(said)] == before + said
            assert not mine or LETTERS.convert_ids_to_tokens(before[-2]) == "~"  # the world's answer stands in front
            mine += said
            at += 1
        assert mine == whole.actions[i].tolist()
    assert at == len(found) and found.heard is None
    assert set(found.extra["turn"]) > {0, 1}


def test_turns_of_the_datasets_history_are_answered_by_the_student():
    batch, of = turns_of("dataset", n=1)
    states_of = [of.tokenizer.decode(c) for c in batch.rows.contexts]
    assert states_of == ["a>c>d:", "a>c>d:b~c", "a>c>d:", "a>c>d:bcd~e"]  # behind the last there is its writer's end token
    assert batch.rows.extra["turn"] == [0, 1, 0, 1] and batch.rows.prompt_B.tolist() == [2, 2, 1, 1]
    assert batch.expected == 2 and (batch.rows.length_B >= 1).all()
    again, _ = turns_of("dataset", learner=Habits(6, greedy=True), n=1)
    assert [list(c) for c in again.rows.contexts] == [list(c) for c in batch.rows.contexts]  # whoever the student is


def test_log_probs_of_a_turn_are_those_within_the_whole_text():
    policy = LMPolicy(qwen(len(LETTERS), 0), LETTERS, max_new_tokens=8)
    whole = pool(0.5, [row()] * 3).play(policy, [0, 1, 2, 0], [1, 2, 3, 4])
    parts = by_turn(whole)
    logp = lambda rows: policy.dist(rows).chunk(0, len(rows.action_N)).logp(rows.action_N)
    assert len(parts) > len(whole)
    torch.testing.assert_close(logp(parts), logp(whole), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(parts.logp_N, whole.logp_N)


def test_debates_about_the_students_own_states_travel_with_the_rows():
    experts = {"x": Says(["bc", "cd"], tokenizer=WIDE_LETTERS), "y": Says(["d", "e"], tokenizer=WIDE_LETTERS)}
    of = SlipPool([row()] * 3, TASK, WIDE_LETTERS, "here", 0.5)
    policy = LMPolicy(qwen(len(WIDE_LETTERS), 1), WIDE_LETTERS, max_new_tokens=6)
    draw = Draw(1, 0, [0, 1], 2, 0, policy, experts, of, of.written)
    rows = Turns(debaters=["x", "y"], show=Marks()).rows(draw).rows
    assert [expert.calls for expert in experts.values()] == [2, 2] and len(experts["x"].asked[0]) == len(rows)
    for state, asked in zip(rows.contexts, experts["x"].asked[0], strict=True):
        assert of.tokenizer.decode(state) == asked  # the state alone
    shown = Context(expert=0).prepare(rows, of, 0, "x").extra["context:x"]
    assert of.tokenizer.decode(shown[-1]) == "1bc|2d|1cd|2e|" + of.tokenizer.decode(rows.contexts[-1])


def test_the_loss_is_summed_over_a_conversations_turns():
    """seq_mean with expected = conversations: sum over turns of the token mean, over conversations."""
    models = policies()
    rows = rows_of(models["student"], 5, 1)
    plain = objective(signal="rkl", support="full", estimator="exact", aggregate="seq_mean")
    teachers = {"teacher": models["teacher"]}
    loss = lambda count: plain.backward(models["student"], rows, {}, teachers, 9, Moment(window=WINDOW, rows=count))["loss"]
    assert loss(2) == pytest.approx(loss(0) * 5 / 2, rel=1e-5)
