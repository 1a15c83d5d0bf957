"""A robot's policy: which image and which tokens each decision saw, its world played by hand, and a checkpoint that is not ours."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForImageTextToText, LlavaConfig, LlavaForConditionalGeneration

from opd_steps.config.merge import merge
from opd_steps.errors import UserError
from opd_steps.graph.kinds.model import ModelNode
from opd_steps.loop.objective import Objective
from opd_steps.models.families.vla import VLA
from opd_steps.models.tokenizers import byte_tokenizer
from opd_steps.models.vla_policy import VLAPolicy
from opd_steps.nouns.dist import Categorical
from opd_steps.objectives.baselines.none import NoBaseline
from opd_steps.objectives.estimators.exact import Exact
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.signals.fkl import ForwardKL
from opd_steps.objectives.signals.rkl import ReverseKL
from opd_steps.objectives.stream import VANILLA
from opd_steps.objectives.supports.full import Full
from opd_steps.objectives.targets.hardest import Hardest
from opd_steps.tasks.worlds.go_to import GoTo

VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
TEXT = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
TINY = {
    "vision_config": VISION | {"model_type": "siglip_vision_model", "image_size": 8, "patch_size": 4, "vision_use_head": False},
    "text_config": TEXT | {"model_type": "qwen3", "head_dim": 8, "initializer_range": 0.3},
    "vision_feature_layer": -1,
    "vision_feature_select_strategy": "full",
}
SAMPLING = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 6}
EXACT = VANILLA | {
    "signal": {"name": "rkl"},
    "support": {"name": "full"},
    "estimator": {"name": "exact"},
    "aggregate": "seq_sum",
}
WORLD = GoTo(size=4, pixels=2, train=12, test=6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("robot")
    VLA().make(SimpleNamespace(stage=place, seed=0, options={"path": None, "revision": None, "config": TINY}))
    return place


@pytest.fixture(scope="module")
def boards(tmp_path_factory):
    place = tmp_path_factory.mktemp("boards")
    assert WORLD.write(SimpleNamespace(stage=place, seed=0))["splits"] == {"train": 12, "test": 6, "ood": 6}
    return place


def policy(folder, train=False, family=None, **sampling):
    return (family or VLA()).policy(folder, train=train, sampling=SAMPLING | sampling)


def pool(boards, robot, world=WORLD):
    return world.pool(boards, "train", robot)


def played(boards, robot, n=4):
    return pool(boards, robot).play(robot, list(range(n)), [10 + i for i in range(n)])


def said(robot, rows):
    with torch.no_grad():
        return robot.dist(rows).logp_NV


# the policy


def test_rows_hold_what_was_seen_and_how_likely_the_actions_were(folder, boards):
    robot = policy(folder)
    rows = played(boards, robot)
    torch.testing.assert_close(rows.logp_N, robot.dist(rows).logp(rows.action_N), rtol=1e-4, atol=1e-4)
    for actions, seen in zip(rows.actions, rows.extra["seen"], strict=True):
        assert len(actions) == 2 * len(seen) <= 6 and seen.dtype == torch.uint8
    alone = pool(boards, robot).play(robot, [2], [12])
    assert alone.actions[0].equal(rows.actions[2]) and alone.extra["path"][0].equal(rows.extra["path"][2])


def test_each_decision_sees_its_own_image_and_what_was_said_of_its_own_action(folder, boards):
    robot = policy(folder)
    rows = pool(boards, robot).written("solution")
    rows = rows.rows([int(rows.length_B.argmax())])
    before, count = said(robot, rows), len(rows.actions[0])
    assert count >= 4
    moved = lambda new: (said(robot, new) - before).abs().amax(-1) > 1e-6
    seen = rows.extra["seen"][0].clone()
    seen[1] = 255 - seen[1]
    assert moved(rows.with_columns(extra=rows.extra | {"seen": [seen]})).tolist() == [i in (2, 3) for i in range(count)]
    other = rows.actions[0].clone()
    other[2] = (other[2] + 1) % 3
    assert moved(rows.with_columns(actions=[other])).tolist() == [i == 3 for i in range(count)]
    told = rows.with_columns(contexts=[rows.contexts[0] | {"prompt": "nobody"}])
    assert moved(told).all()


def test_prompts_of_other_lengths_beside_it_change_nothing(folder, boards):
    robot = policy(folder)
    rows = pool(boards, robot).written("solution").rows([0, 1])  # red, blue
    assert {c["prompt"] for c in rows.contexts} == {"red", "blue"}
    together = said(robot, rows).split(rows.length_B.tolist())
    for i, whole in enumerate(together):
        torch.testing.assert_close(said(robot, rows.rows([i])), whole, rtol=1e-4, atol=1e-5)


def test_greedy_says_the_likeliest_bins(folder, boards):
    robot = policy(folder, temperature=0.0)
    rows = played(boards, robot)
    assert rows.action_N.equal(said(robot, rows).argmax(-1))


def test_a_student_is_no_way_from_itself(folder, boards):
    student, other = policy(folder, train=True), policy(folder)
    rows = played(boards, other)
    found = Objective.from_method(EXACT, 6).backward(student, rows, {}, {"teacher": other})
    assert abs(found["divergence"]) < 1e-7
    largest = max(float(p.grad.abs().max()) for p in student.model.parameters() if p.grad is not None)
    for p in other.model.parameters():
        p.data *= 0.5
    found = Objective.from_method(EXACT, 6).backward(student, rows, {}, {"teacher": other})
    assert found["divergence"] > 1e-3 and largest < 1e-5


def test_an_episode_is_the_sum_of_its_actions(folder, boards):
    """No gradient from an action into those before it: the world is not differentiated."""
    student, teacher = policy(folder, train=True), policy(folder)
    for p in teacher.model.parameters():
        p.data *= 0.5
    rows = pool(boards, student).written("solution").rows([0, 1, 2])

    def gradient(parts):
        for part in parts:
            Objective.from_method(EXACT, 6).backward(student, part, {}, {"teacher": teacher})
        found = torch.cat([p.grad.flatten() for p in student.model.parameters() if p.grad is not None])
        student.model.zero_grad()
        return found

    def single(b, t):
        row = rows.rows([b])
        extra = {"seen": [row.extra["seen"][0][t : t + 1]]}
        return row.with_columns(actions=[row.actions[0][2 * t : 2 * t + 2]], extra=extra)

    parts = [single(b, t) for b in range(3) for t in range(len(rows.extra["seen"][b]))]
    whole = gradient([rows])
    assert whole.norm() > 0
    torch.testing.assert_close(gradient(parts) / 3, whole, rtol=1e-3, atol=1e-5)  # seq_sum: of a mean over rows


# the world


def test_a_board_by_hand(folder, boards):
    here = pool(boards, policy(folder))
    here.data = [{"id": "x", "task": "second", "prompt": "blue", "block": 1, "cells": [[0, 0], [1, 2], [3, 3]]}]
    image = here.image(0, [0, 0])
    assert image.shape == (3, 8, 8) and image[:, :2, :2].eq(255).all()
    assert image[0, 2:4, 4:6].eq(255).all() and image[1:, 2:4, 4:6].eq(0).all() and image[2, 6:, 6:].eq(255).all()
    assert int(image.long().sum()) == 255 * 4 * (3 + 1 + 1)
    assert here.image(0, [3, 3])[:, 6:, 6:].eq(255).all()  # the robot hides the block
    rows = here.written("solution")
    assert rows.extra["path"][0].tolist() == [[0, 0], [1, 1], [2, 2], [3, 3]] and rows.actions[0].tolist() == [2] * 6
    assert here.written("corpus").actions[0].tolist() == [2, 2] and here.rewards(rows) == [1.0]
    assert here.show(rows) == ["blue 3,3: 0,0 1,1 2,2 3,3"]
    assert here.film(rows)[0][:3].equal(rows.extra["seen"][0]) and here.film(rows)[0][3].equal(here.image(0, [3, 3]))
    slipped = rows.with_columns(extra=rows.extra | {"path": [torch.tensor([[0, 0], [1, 0], [2, 1], [3, 2]])]})
    assert here.show(slipped) == ["blue 3,3: 0,0 ~1,0 2,1 3,2"] and here.rewards(slipped) == [0.0]
    assert here.moved([0, 3], [0, 2]) == [0, 3]


class Always:
    """Says the same action whatever it sees."""

    def __init__(self, robot, action):
        self.robot, self.action, self.horizon = robot, torch.tensor(action), robot.horizon

    def rollout(self, *args):
        rows = self.robot.rollout(*args)
        return rows.with_columns(actions=[self.action] * len(rows))


def test_play_by_hand_and_slips_that_no_policy_moves(folder, boards):
    robot = policy(folder, max_new_tokens=13)  # 6 actions
    still, wild = (pool(boards, robot, GoTo(size=4, slip=slip)) for slip in (0.0, 1.0))
    down, up = Always(robot, [2, 1]), Always(robot, [0, 1])
    ids, seeds = list(range(12)), list(range(12))
    rows = still.play(down, ids, seeds)
    for i, path, ended, reward in zip(ids, rows.extra["path"], rows.ended_B, rows.reward_B, strict=True):
        start, goal = still.data[i]["cells"][0], still.goal(i)
        reached = start[1] == goal[1] and start[0] < goal[0]
        assert path[-1].tolist() == (goal if reached else [3, start[1]])
        assert len(path) - 1 == (goal[0] - start[0] if reached else 6)
        assert bool(ended) == bool(reward) == reached
    paths = [wild.play(robot, ids, seeds).extra["path"] for robot in (down, up)]
    assert all(a.equal(b) for a, b in zip(*paths, strict=True))
    mixed = pool(boards, robot, GoTo(size=4, slip=0.4))
    told = " ".join(mixed.show(mixed.play(Always(robot, [1, 1]), ids, seeds)))
    moves = sum(len(path) - 1 for path in mixed.play(Always(robot, [1, 1]), ids, seeds).extra["path"])
    assert 0.15 < told.count("~") / moves < 0.5  # of .4, a ninth stays where it is, more at walls


def test_train_rows_of_one_task(folder, tmp_path):
    GoTo(only="second", blocks=3, train=8, test=6).write(SimpleNamespace(stage=tmp_path, seed=0))
    load = lambda split: GoTo(blocks=3).pool(tmp_path, split, policy(folder))
    assert {row["task"] for row in load("train").data} == {"second"}
    assert [load("test").column("task", i) for i in range(4)] == ["first", "second", "third", "first"]
    assert all(len({tuple(cell) for cell in row["cells"]}) == 4 for row in load("test").data)


# objectives


def test_forward_kl_is_wide_where_reverse_kl_takes_one_side():
    """A student with one bump and a teacher with two, at 6 and 14, by the production losses from a start near one of them."""
    x = torch.arange(21.0)
    bump = lambda m: torch.exp(-0.5 * (x - m).square())
    teacher, ends = Categorical.from_logits((bump(6.0) + bump(14.0) + 1e-4).log()[None]), []
    for signal in (ForwardKL(), ReverseKL()):
        m, s = torch.tensor(7.0, requires_grad=True), torch.tensor(0.0, requires_grad=True)
        optim = torch.optim.Adam([m, s], lr=0.05)
        for _ in range(1500):
            q = Categorical.from_logits((-0.5 * ((x - m) / s.exp()).square())[None])
            loss, _ = Exact().loss(q, Evidence(torch.zeros(1, dtype=torch.long), teacher), Full(), signal, NoBaseline())
            optim.zero_grad()
            loss.sum().backward()
            optim.step()
        ends.append((m.item(), s.exp().item(), q.entropy().item()))
    (centre, width, wide), (side, narrow, sharp) = ends
    assert centre == pytest.approx(10.0, abs=0.05) and 3.5 < width < 5.5  # an exponential family: FKL matches the mean
    assert side == pytest.approx(6.0, abs=0.1) and narrow == pytest.approx(1.0, abs=0.1) and wide > sharp + 1


def test_hardest_is_cross_entropy_to_the_likeliest():
    logits = torch.randn(5, 4, requires_grad=True)
    q, p = Categorical.from_logits(logits), Categorical.from_logits(torch.randn(5, 4))
    seen = Evidence(torch.zeros(5, dtype=torch.long), p)
    aimed = Evidence(seen.action_N, Hardest().of(q, seen))
    loss, _ = Exact().loss(q, aimed, Full(), ForwardKL(), NoBaseline())
    want = torch.nn.functional.cross_entropy(logits, p.logp_NV.argmax(-1), reduction="none")
    torch.testing.assert_close(loss, want)
    a, b = (torch.autograd.grad(x.sum(), logits, retain_graph=True)[0] for x in (loss, want))
    torch.testing.assert_close(a, b)


# folders


def test_a_checkpoint_of_others_is_read_scaled_and_kept(folder, boards, tmp_path):
    """Another tower with a class token that is left out, another language model, other sizes; pixels as its own file says."""
    torch.manual_seed(0)
    theirs, tokenizer = tmp_path / "theirs", byte_tokenizer()
    config = LlavaConfig(
        vision_config=VISION | {"model_type": "clip_vision_model", "image_size": 12, "patch_size": 4, "num_hidden_layers": 2},
        text_config=TEXT | {"model_type": "llama", "vocab_size": 300, "initializer_range": 0.3},
        image_token_index=290,
    )
    LlavaForConditionalGeneration(config).save_pretrained(theirs)
    tokenizer.save_pretrained(theirs)
    (theirs / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.25, 0.2]}))
    family = VLA(bins=5, template="go to {prompt}:")
    place = tmp_path / "node"
    place.mkdir()
    options = {"path": str(theirs), "revision": None, "config": {}}
    facts = family.make(SimpleNamespace(stage=place, seed=0, options=options, sources={}))
    assert facts["vocab_size"] == 5 and facts["weights"]
    robot = policy(place, family=family)
    assert len(robot._pictured) == 9 and robot.first == 295
    white = robot.pixels(torch.full((1, 3, 8, 8), 255, dtype=torch.uint8))
    assert white.shape == (1, 3, 12, 12)
    torch.testing.assert_close(white[0, :, 0, 0], torch.tensor([1.8, 3.2, 3.5]))
    rows = pool(boards, robot).play(robot, [0, 1, 2], [0, 1, 2])
    family.save(robot, tmp_path / "trained")
    again = policy(tmp_path / "trained", family=family)
    assert said(again, rows).equal(said(robot, rows)) and again.pixels(torch.zeros(1, 3, 12, 12)).std() > 0
    torch.testing.assert_close(again.pixels(torch.zeros(1, 3, 12, 12)), robot.pixels(torch.zeros(1, 3, 12, 12)))
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "trained/model")
    assert isinstance(model, LlavaForConditionalGeneration)
    with pytest.raises(UserError, match="other dimensions or bins"):
        family.require_same(robot, policy(folder), "there", "teacher")


def test_a_row_of_real_shape_goes_through_one_layer_of_each_part():
    """LLaVA-Interleave-Qwen-0.5B's widths, image and vocabulary: 729 tokens an image, a decision at the last of 152 000."""
    torch.manual_seed(0)
    vision = {"hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16, "image_size": 384, "patch_size": 14}
    text = {"hidden_size": 896, "intermediate_size": 4864, "num_attention_heads": 14, "num_key_value_heads": 2}
    config = LlavaConfig(
        vision_config=vision | {"model_type": "siglip_vision_model", "num_hidden_layers": 1, "vision_use_head": False},
        text_config=text | {"model_type": "qwen2", "num_hidden_layers": 1, "vocab_size": 152000, "tie_word_embeddings": True},
        image_token_index=151646,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    family = VLA(bins=5, template="What should the robot do to go to the {prompt} block? Answer: ")
    robot = VLAPolicy(LlavaForConditionalGeneration(config), byte_tokenizer(), family, SAMPLING)
    context = {"prompt": "red", "image": torch.full((3, 192, 192), 200, dtype=torch.uint8)}
    rows = robot.rollout([context], [0], [0])
    assert len(robot._pictured) == 729 and robot.first == 151995
    torch.testing.assert_close(rows.logp_N, robot.dist(rows).logp(rows.action_N).detach(), rtol=1e-4, atol=1e-4)


def test_equal_weights_give_equal_bytes(folder, tmp_path):
    robot = policy(folder)
    robot.family.save(robot, tmp_path / "a")
    robot.family.save(policy(tmp_path / "a"), tmp_path / "b")
    files = lambda place: {str(p.relative_to(place)): p.read_bytes() for p in place.rglob("*") if p.is_file()}
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_what_is_refused(folder, boards):
    robot = policy(folder)
    with pytest.raises(UserError, match="dims 2, found 3"):
        pool(boards, VLA(dims=3).policy(folder))
    with pytest.raises(UserError, match="an action is 2 tokens"):
        played(boards, policy(folder, max_new_tokens=1))
    with pytest.raises(UserError, match="no column 'debate'"):
        pool(boards, robot).written("debate")
    with pytest.raises(UserError, match="leave them out"):
        VLA().make(SimpleNamespace(seed=0, options={"path": None, "config": {"text_config": {"vocab_size": 9}}}))
    for wrong, said in (
        ({"towers": 2}, "config.towers: llava has no such field"),
        ({"text_config": TEXT | {"hiden_size": 3}}, r"config.text_config.hiden_size: llama .* Did you mean 'hidden_size'"),
        (
            {"vision_config": {"model_type": "siglip_vison_model"}},
            r"config.vision_config.model_type: transformers has no 'siglip_vison",
        ),
    ):
        with pytest.raises(UserError, match=said):
            VLA().make(SimpleNamespace(seed=0, options={"path": None, "config": TINY | wrong}))
    for options in ({"bins": 4}, {"template": "go:"}):
        with pytest.raises(UserError, match="expected"):
            merge(ModelNode, {"kind": "model", "family": {"name": "vla"} | options, "path": "x"}, "here")
