"""PRISM (arXiv 2604.28123): segments, the critic and its loss, the alignment advantage, and that a teacher gives texts alone."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from opd_steps.config.merge import merge
from opd_steps.graph.method import Method
from opd_steps.judges.discriminator import Discriminator
from opd_steps.judges.formatted import Formatted
from opd_steps.loop.objective import Objective
from opd_steps.models.experts import ExpertHead, imbalance_N
from opd_steps.models.families.text_critic import Critic, TextCritic
from opd_steps.models.folder import load_tokenizer
from opd_steps.nouns.bench import Bench
from opd_steps.nouns.duel import Said, duel
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.tasks.pool import PromptPool
from opd_steps.tasks.segments import in_segments
from opd_steps.teachers.view import ModelTeacher
from tests.pipeline.stages import Stages
from tests.unit.opd_toys import SHAPE, Killed, curve, nodes, read_weights, run

CRITIC = "model/critic/seed7"
MARK = "7"


def made_critic():
    """The toys' folder with a critic in it."""
    if not (nodes() / "p" / CRITIC).exists():
        Stages(nodes()).run("critic", "model", {"data": "data/data"}, 7, family={"name": "text_critic"}, config=SHAPE)
    return nodes() / "p" / CRITIC


def critic(train: bool = True, **options) -> Critic:
    return TextCritic(**options).policy(made_critic(), train=train)


def row(tokenizer, text: str, ended: bool = True) -> tuple[list[int], bool]:
    return [*tokenizer.encode(text, add_special_tokens=False), *([tokenizer.eos_token_id] if ended else [])], ended


def texts(*made: str | tuple[str, bool], prompts: list[int] | None = None) -> Trajectory:
    """Responses to the prompt `ab`, that end unless they say otherwise."""
    tokenizer = load_tokenizer(made_critic())
    ids, ended = zip(*(row(tokenizer, *([text] if isinstance(text, str) else text)) for text in made), strict=True)
    context = tokenizer.encode("ab", add_special_tokens=False)
    actions = [torch.tensor(each, dtype=torch.long) for each in ids]
    prompt_B = torch.tensor(prompts or [0] * len(made))
    return Trajectory([context] * len(made), actions, prompt_B, reward_B=torch.ones(len(made)), ended_B=torch.tensor(ended))


def said(rows: Trajectory) -> list[Said | None]:
    return in_segments(rows, SimpleNamespace(tokenizer=load_tokenizer(made_critic())), MARK)


# segments


def test_work_ends_at_the_last_mark_and_the_answer_at_the_end():
    found = said(texts("a7b", "ab7a7cd", "7b", "b7", "abc", ("a7b", False)))
    assert [each and each.ends for each in found] == [(1, 3), (4, 7), (0, 2), None, None, None]


def test_an_answer_that_a_stop_string_ended_is_one_to_its_last_token():
    rows = texts(("a7b", False), ("a7", False)).with_columns(ended_B=torch.tensor([True, True]), stop=["b", "7"])
    assert [each and each.ends for each in said(rows)] == [(1, 2), None]


def test_a_mark_may_be_what_stands_in_the_prompt():
    pool = SimpleNamespace(tokenizer=load_tokenizer(made_critic()), rows=[{"prompt": "a>b>c"}, {"prompt": "a>d>c"}])
    found = in_segments(texts("abdc", "abdc", prompts=[0, 1]), pool, r">(\w)", in_prompt=True)
    assert [each.ends for each in found] == [(1, 4), (2, 4)]


def test_rewards_of_rlvr_are_four_fifths_right_and_one_fifth_format():
    pool = PromptPool.load(nodes() / "p/data/data/seed0", "train", load_tokenizer(made_critic()))
    rows = texts("a7b", "abc", "a7b", "abc").with_columns(reward_B=torch.tensor([1.0, 1.0, 0.0, 0.0]))
    judged, _ = Formatted(mark=MARK).judge(rows, Bench({}, {}, pool, 8, 0))
    torch.testing.assert_close(judged.reward_B, torch.tensor([1.0, 0.8, 0.2, 0.0]))


# the critic


def test_experts_are_copies_of_one_but_for_noise_and_two_of_four_read_a_token():
    h_ND = torch.randn(9, 16, generator=torch.Generator().manual_seed(0))
    twins, one = ExpertHead(16, 4, 2, 0.0, 3), ExpertHead(16, 1, 1, 0.0, 3)
    assert all(torch.equal(twins.up_EMD[0], other) for other in twins.up_EMD)
    for name in ("up_EMD", "down_EDM"):
        getattr(one, name).data = getattr(twins, name).data[:1]
    one.value_D.data = twins.value_D.data
    torch.testing.assert_close(twins(h_ND)[0], one(h_ND)[0])

    head = ExpertHead(16, 4, 2, 0.5, 3)
    score_N, prob_NE = head(h_ND)
    for h_D, score, prob_E in zip(h_ND, score_N, prob_NE, strict=True):
        best = prob_E.topk(2).indices
        gates = head.router_ED[best] @ h_D
        inner = [head.down_EDM[e] @ F.silu(head.up_EMD[e] @ h_D) for e in best]
        mixed = sum(g * x for g, x in zip(gates.softmax(0), inner, strict=True))
        torch.testing.assert_close(score, (h_D + mixed) @ head.value_D)


def test_imbalance_is_one_where_experts_get_as_much_and_greatest_where_one_set_gets_all():
    even = torch.tensor([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    assert float(imbalance_N(even, 2).mean()) == pytest.approx(1)
    assert float(imbalance_N(even[:1].repeat(4, 1), 2).mean()) == pytest.approx(2)


def test_a_text_scores_alike_alone_and_among_longer_ones_and_within_the_clip():
    every = said(texts("a7b", "abcdabcd7abc", "bb7a"))
    score_BS, _ = critic().scores(every)
    for each, score_S in zip(every, score_BS, strict=True):
        torch.testing.assert_close(critic().scores([each])[0][0], score_S, rtol=1e-4, atol=1e-5)
    assert float(critic(clip=0.01).scores(every)[0].detach().abs().max()) == pytest.approx(0.01)


def duels(good: Trajectory, bad: Trajectory) -> Trajectory:
    pairs = [duel(*pair) for pair in zip(said(good), said(bad), strict=True)]
    return Trajectory(pairs, [torch.zeros(2, dtype=torch.long)] * len(pairs), good.prompt_B)


def loss_of(model: Critic, rows: Trajectory, micro_batch: int = 64, **options) -> dict[str, float]:
    method = merge(Method, {"estimator": {"name": "duel", **options}, "aggregate": "seq_sum"}, "test")
    return Objective.from_method(method, 8).backward(model, rows, {}, micro_batch=micro_batch)


@pytest.mark.parametrize("micro_batch", [2, 64])
@pytest.mark.parametrize("ridge", [0.001, 0.3])
def test_the_critics_loss_is_both_segments_bradley_terry_and_the_mean_square(ridge, micro_batch):
    good, bad = texts("a7b", "ab7a", "bb7c"), texts("c7d", "ab7b", "bb7c")
    model, plain = critic(), critic()
    stats = loss_of(model, duels(good, bad), micro_batch, ridge=ridge)
    first_BS, second_BS = (plain.scores(said(rows))[0] for rows in (good, bad))
    bt = sum(-F.logsigmoid(first_BS[:, k] - second_BS[:, k]).mean() for k in range(2))
    loss = bt + ridge * torch.stack([first_BS, second_BS]).square().mean()
    loss.backward()
    assert stats["loss"] == pytest.approx(loss.item(), rel=1e-5)
    for (name, p), q in zip(model.model.named_parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-7, msg=name)
    wins = (first_BS > second_BS).float() + (first_BS == second_BS).float() / 2
    assert stats["accuracy"] == pytest.approx(float(wins.mean())) and wins[2].tolist() == [0.5, 0.5]


def test_the_warm_up_adds_the_routers_imbalance():
    rows = duels(texts("a7b", "ab7a"), texts("c7d", "ab7b"))
    plain, warm = loss_of(critic(), rows), loss_of(critic(), rows, balance=0.01)
    assert warm["loss"] == pytest.approx(plain["loss"] + 0.01 * plain["imbalance"], rel=1e-5)
    assert plain["imbalance"] > 0


# the advantage

SCORES = torch.tensor([[1.0, 0.0], [2.0, 0.5], [4.0, -1.0], [9.0, 9.0], [0.3, 0.1], [0.2, 0.7]])
VALID = torch.tensor([True, True, True, False, True, True])
GROUPS = torch.tensor([0, 0, 0, 0, 1, 1])


def normalised(x: torch.Tensor) -> torch.Tensor:
    return (x - x.mean()) / (x.std() + 1e-6)


def test_an_invalid_row_counts_as_the_least_valid_score_less_one():
    found = Discriminator().advantage_B(SCORES, VALID, GROUPS)
    filled = torch.cat([SCORES[:3], torch.tensor([[0.0, -2.0]])])
    expected = sum(0.5 * normalised(filled[:, k]) for k in range(2))
    torch.testing.assert_close(found[:3], expected[:3])
    torch.testing.assert_close(found[3], expected[3] - 1.5)
    torch.testing.assert_close(found[4:], sum(0.5 * normalised(SCORES[4:, k]) for k in range(2)))


@pytest.mark.parametrize("over", ["group", "valid"])
def test_a_groups_mean_over_valid_rows_is_0(over):
    """`over: group` where all rows are valid, and over the whole group else; `over: valid` always."""
    found = Discriminator(over=over).advantage_B(SCORES, VALID, GROUPS)
    assert float(found[4:].sum()) == pytest.approx(0, abs=1e-6)
    assert float(found[:3].sum() + (found[3] + 1.5 if over == "group" else 0)) == pytest.approx(0, abs=1e-6)
    assert float(found[3]) == -1.5 or over == "group"


@pytest.mark.parametrize("over", ["group", "valid"])
def test_a_group_without_a_valid_row_or_without_spread_has_no_alignment(over):
    judge, none = Discriminator(over=over), torch.zeros(4, dtype=torch.bool)
    assert judge.advantage_B(SCORES[:4], none, GROUPS[:4]).tolist() == [-1.5] * 4
    assert judge.advantage_B(torch.ones(4, 2), ~none, GROUPS[:4]).tolist() == [0] * 4


# in a node

DUELS = {"name": "duels", "author": "author", "mark": "c"}  # what random models say has the format one time in five
MANY = {"prompts": 24, "sampling": {"n": 8, "max_new_tokens": 16, "temperature": 2.0}, "micro_batch": 64}
ALIGN = MANY | {
    "judges": [{"name": "discriminator", "mark": "c"}],
    "method": {"signal": "outcome", "estimator": {"name": "pg", "ratio": "sampler", "clip_low": 0.2, "clip_high": 0.2}},
}


def aligned(folder, kill_at: int = 0, author: bool = True, **changes):
    made_critic()
    parents = {"teacher": None, "reference": None, "learners.critic.model": CRITIC}
    parents |= {"teachers.author.model": "model/teacher/seed1"} if author else {}
    prefix = DUELS if author else {"name": "duels", "mark": "b"}
    learner = {"method": {"estimator": "duel", "aggregate": "seq_sum", "prefix": prefix}, "optim": {"lr": 0.01}}
    teachers = {"author": {}} if author else {}
    return run(folder, kill_at, parents=parents, teachers=teachers, learners={"critic": learner}, **ALIGN, **changes)


def test_no_logits_of_a_teacher_are_read(tmp_path, monkeypatch):
    """Its model samples, and nobody can ask it what it thinks of a token: neither as a view nor by its policy."""

    def refuse(*_, **__):
        raise AssertionError("a teacher was asked for a distribution")

    monkeypatch.setattr(ModelTeacher, "dist", refuse)
    found = aligned(tmp_path, steps=2)
    assert max(curve(found.metrics, "critic/tokens")) > 0 and 0 < max(curve(found.metrics, "valid")) <= 1


def test_the_policys_advantage_is_the_alignment_and_rewards_stay_the_tasks(tmp_path, monkeypatch):
    seen, judge = [], Discriminator.judge

    def spy(self, rows, bench):
        seen.append(judge(self, rows, bench)[0])
        return seen[-1], judge(self, rows, bench)[1]

    monkeypatch.setattr(Discriminator, "judge", spy)
    plain = run(tmp_path / "b", steps=1, **{key: value for key, value in ALIGN.items() if key != "judges"})
    found = aligned(tmp_path / "a", steps=1)
    assert curve(found.metrics, "reward") == curve(plain.metrics, "reward")
    advantage_B, length_B = torch.tensor(seen[0].extra["advantage"]), seen[0].length_B
    mean = float((advantage_B * length_B).sum() / length_B.sum())
    assert curve(found.metrics, "advantage") == [pytest.approx(mean, rel=1e-4)] and abs(mean) > 0.1
    assert curve(found.metrics, "advantage") != curve(plain.metrics, "advantage")


def test_a_critic_in_training_tells_texts_apart_and_a_resumed_run_ends_alike(tmp_path):
    options = {"steps": 8, "optim": {"lr": 0.0}}
    whole = aligned(tmp_path / "whole", **options)
    losses = curve(whole.metrics, "critic/loss")
    assert sum(losses[-3:]) < sum(losses[:3])
    with pytest.raises(Killed):
        aligned(tmp_path / "broken", 5, **options)
    resumed = aligned(tmp_path / "broken", **options)
    assert resumed.metrics == whole.metrics
    files = [json.dumps(found.manifest["files"], sort_keys=True) for found in (whole, resumed)]
    assert files[0] == files[1] and "parts/critic/head.safetensors" in files[0]


def test_the_datas_own_texts_are_a_teachers(tmp_path):
    found = aligned(tmp_path, author=False, steps=2)
    assert "author" not in json.dumps(found.manifest["facts"])


def test_a_critic_is_warmed_up_alone_and_read_by_its_name(tmp_path):
    made_critic()
    parents = {"teacher": None, "reference": None, "student": CRITIC}
    parents |= {"teachers.author.model": "model/teacher/seed1", "teachers.sft.model": "model/student/seed0"}
    method = {"estimator": "duel", "aggregate": "seq_sum", "prefix": DUELS | {"policy": "sft"}}
    options = MANY | {"teachers": {"author": {}, "sft": {}}, "method": method, "buffer": {"passes": 4}}
    warmed = run(tmp_path, parents=parents, **options)
    losses = curve(warmed.metrics, "loss")
    assert losses[3] < losses[0] and losses[7] < losses[4]  # the same pairs four times
    moved = read_weights(tmp_path / "p/opd/toy/seed3")
    assert not torch.equal(moved["model.embed_tokens.weight"], read_weights(made_critic())["model.embed_tokens.weight"])
    again = TextCritic().policy(tmp_path / "p/opd/toy/seed3")
    assert again.scores(said(texts("a7b")))[0].shape == (1, 2)


def test_of_text_a_critic_says_what_its_body_does_and_sft_trains_that(tmp_path):
    """SFT moves the body and leaves the head; its loss falls."""
    made_critic()
    for name in ("model", "data"):
        (tmp_path / "p").mkdir(exist_ok=True)
        (tmp_path / "p" / name).symlink_to(nodes() / "p" / name)
    how = {"steps": 12, "batch": 4, "micro_batch": 4, "optim": {"lr": 0.01}}
    found = Stages(tmp_path).run("sft", "sft", {"student": CRITIC, "data": "data/data"}, 3, **how)
    assert found["metrics"]["train/loss"] < found["metrics"]["train/loss:first"]
    before, after = (TextCritic().policy(folder).model for folder in (made_critic(), tmp_path / "p/sft/sft/seed3"))
    same = {name: torch.equal(p, dict(after.named_parameters())[name]) for name, p in before.named_parameters()}
    assert {name for name, equal in same.items() if equal} == {name for name in same if name.startswith("head.")}
