"""Flows of images: their steps in closed form, their rows, and what a diffusers pipeline makes of their checkpoints."""

from __future__ import annotations

import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from opd_steps.errors import UserError
from opd_steps.loop.objective import Objective
from opd_steps.models.families.sd3 import LEFT_OUT, SD3
from opd_steps.models.flow_steps import transition
from opd_steps.models.word_vectors import WordVectors
from opd_steps.nouns.dist import DiagGaussian
from opd_steps.objectives.baselines.none import NoBaseline
from opd_steps.objectives.estimators.state_advantage import StateAdvantage
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.signals.rkl import ReverseKL
from opd_steps.objectives.stream import VANILLA, Moment
from opd_steps.objectives.supports.full import Full
from opd_steps.objectives.weights.flow_time import FlowTime
from opd_steps.tasks.flow_lines import line
from opd_steps.tasks.worlds.blocks import Blocks
from opd_steps.tasks.worlds.new_word import NewWord
from opd_steps.teachers.contexts.pictured import Pictured
from opd_steps.teachers.view import ModelTeacher, View

SHAPE = {"sample_size": 8, "patch_size": 4, "in_channels": 3, "out_channels": 3, "num_layers": 1, "num_attention_heads": 2}
WIDTHS = {"attention_head_dim": 8, "joint_attention_dim": 8, "caption_projection_dim": 16, "pooled_projection_dim": 8}
TINY = SHAPE | WIDTHS | {"pos_embed_max_size": 2}
SAMPLING = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 4}
EXACT = {
    **VANILLA,
    "signal": {"name": "rkl"},
    "support": {"name": "full"},
    "estimator": {"name": "exact"},
    "aggregate": "seq_mean",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("flow")
    SD3(patches=2).make(SimpleNamespace(stage=place, seed=0, options={"path": None, "revision": None, "config": TINY}))
    return place


def policy(folder, family=None, train=False, **sampling):
    family = family or SD3(patches=2)
    return family.policy(folder, train=train, sampling=SAMPLING | sampling)


def moved(folder, amount=0.05):
    """Another model of the same shape."""
    other, draw = policy(folder), torch.Generator().manual_seed(1)
    for p in other.model.parameters():
        p.data += amount * torch.randn(p.shape, generator=draw)
    return other


def rows_of(flow, n=4, seed=0):
    return flow.rollout(["red block", "block northwest"] * (n // 2), list(range(n)), [seed + i for i in range(n)])


# steps


def test_a_step_by_hand():
    """s^2 = a^2 sigma / (1 - sigma), at sigma 1 with the next sigma; the last step draws nothing."""
    x, v = torch.tensor([[2.0], [2.0], [2.0]]), torch.tensor([[1.0], [1.0], [1.0]])
    step = transition(x, v, torch.tensor([1.0, 0.5, 0.25]), torch.tensor([0.5, 0.25, 0.0]), 0.7)
    first, second = 0.49 * 1 / 0.5, 0.49 * 0.5 / 0.5
    mean = [2 * (1 - first / 2 * 0.5) - 0.5, 2 * (1 - second * 0.25) - (1 + second * 0.5 / 1.0) * 0.25, 2 - 0.25]
    assert step.mean_ND[:, 0].tolist() == pytest.approx(mean)
    assert step.std_ND[:, 0].tolist() == pytest.approx([math.sqrt(first * 0.5), math.sqrt(second * 0.25), 1.0])
    ode = transition(x, v, torch.tensor([1.0, 0.5, 0.25]), torch.tensor([0.5, 0.25, 0.0]), 0.0)
    assert ode.mean_ND[:, 0].tolist() == [1.5, 1.75, 1.75] and ode.std_ND[:, 0].tolist() == [1.0] * 3


@pytest.mark.parametrize("level", [0.0, 0.7])
def test_sde_and_ode_end_with_the_data(level):
    """Of data N(m, c^2) the exact velocity is known: both end with mean m and deviation c."""
    m, c, count, times = 0.6, 0.4, 20000, torch.linspace(1, 0, 201)
    draw = np.random.Generator(np.random.Philox(0))
    normal = lambda: torch.tensor(draw.standard_normal((count, 1)), dtype=torch.float32)
    x = normal()
    for now, after in pairwise(times):
        whole = (1 - now) ** 2 * c**2 + now**2
        gap = x - (1 - now) * m
        v = now / whole * gap - (m + (1 - now) * c**2 / whole * gap)
        step = transition(x, v, now.expand(count), after.expand(count), level)
        x = step.mean_ND + (step.std_ND * normal() if level and after > 0 else 0)
    assert float(x.mean()) == pytest.approx(m, abs=0.02)
    assert float(x.std()) == pytest.approx(c, abs=0.02)


def test_divergences_in_closed_form():
    """Equal widths: sum (difference)^2 / (2 s^2 (-dt)); the weight `drift` takes dt out; ODE: velocities and predicted images."""
    x, v, u = torch.randn(3, 5), torch.randn(3, 5), torch.randn(3, 5)
    sigma, after = torch.tensor([0.8, 0.8, 0.5]), torch.tensor([0.5, 0.0, -0.5])
    rows = SimpleNamespace(extra={"sigmas": [torch.stack([sigma, after], 1)]})
    weight = lambda space: FlowTime(space).over_batch(rows, {}, Moment())[0]
    q, p = (transition(x, w, sigma, after, 0.7) for w in (v, u))
    square = 0.49 * 0.8 / 0.2
    gap = (v - u)[0] * (1 + square * 0.2 / 1.6) * 0.3
    assert float(q.kl(p)[0]) == pytest.approx(float(gap.square().sum() / (2 * square * 0.3)), rel=1e-4)
    assert float((weight("drift") * q.kl(p))[0]) == pytest.approx(float(gap.square().sum() / (2 * square)), rel=1e-4)
    q, p = (transition(x, w, sigma, after, 0.0) for w in (v, u))
    torch.testing.assert_close(weight("velocity") * q.kl(p), (v - u).square().sum(-1))
    image = lambda w: x - sigma[:, None] * w
    torch.testing.assert_close(weight("image") * q.kl(p), (image(v) - image(u)).square().sum(-1))


def test_a_step_of_length_one_is_flow_matching():
    image, v = torch.randn(6), torch.randn(4, 6)
    state, action, times = line(image, 4, 3.0, 0, "test")
    q = transition(state, v, times[:, 0], times[:, 1], 0.7)
    noise = (state - (1 - times[:, :1]) * image) / times[:, :1]
    nll = -q.logp(action) - 3 * math.log(2 * math.pi)
    torch.testing.assert_close(nll, 0.5 * (v - (noise - image)).square().sum(-1), rtol=1e-3, atol=1e-3)
    assert times[:, 0].tolist() == sorted(times[:, 0].tolist()) and float(times[0, 0]) > 0 and float(times[-1, 0]) < 1
    start = torch.ones(6)
    state, action, times = line(image, 4, 3.0, 0, "test", noise_D=start)
    torch.testing.assert_close(state, image + times[:, :1] * (start - image))


def test_the_stated_update_has_no_gradient_and_the_released_one_that_of_the_divergence():
    """In expectation over the step's noise, by Gauss-Hermite quadrature, which is exact here (1-D)."""
    z, w = np.polynomial.hermite_e.hermegauss(7)
    z, w = torch.tensor(z)[:, None], torch.tensor(w / w.sum())
    std, p = torch.tensor(0.5, dtype=torch.float64), DiagGaussian(torch.tensor([[-0.2]]).double(), torch.tensor(0.5).double())
    theta = torch.tensor([[0.4]], dtype=torch.float64)

    def mean_gradient(detached):
        mean = theta.clone().requires_grad_()
        q = DiagGaussian(mean.expand(7, 1), std)
        teacher = DiagGaussian(p.mean_ND.expand(7, 1), p.std_ND)
        seen = Evidence(action_N=theta + std * z, teacher=teacher)
        loss, _ = StateAdvantage(detached).loss(q, seen, Full(), ReverseKL(), NoBaseline())
        return float(torch.autograd.grad((w * loss).sum(), mean)[0])

    mean = theta.clone().requires_grad_()
    exact = float(torch.autograd.grad(DiagGaussian(mean, std).kl(p).sum(), mean)[0])
    assert mean_gradient(True) == pytest.approx(0.0, abs=1e-12)
    assert mean_gradient(False) == pytest.approx(exact) and exact > 1


def test_log_probs_as_means_over_dimensions_weigh_the_noise_less():
    mean, drawn = torch.randn(1, 4, requires_grad=True), torch.randn(1, 4)
    q, p = DiagGaussian(mean, torch.tensor(0.5)), DiagGaussian(torch.randn(1, 4), torch.tensor(0.5))
    seen = Evidence(action_N=drawn, teacher=p)
    loss, _ = StateAdvantage(detached=False, per_dim=True).loss(q, seen, Full(), ReverseKL(), NoBaseline())
    (found,) = torch.autograd.grad(loss.sum(), mean)
    value, score = q.kl(p), torch.autograd.grad(q.logp(drawn).sum(), mean)[0]
    (exact,) = torch.autograd.grad(value.sum(), mean)
    torch.testing.assert_close(found, exact + value.detach() * score / 4)


# the policy


def test_rows_hold_what_the_steps_were(folder):
    flow = policy(folder)
    rows = rows_of(flow)
    assert rows.length_B.tolist() == [4] * 4
    torch.testing.assert_close(rows.logp_N, flow.dist(rows).logp(rows.action_N), rtol=1e-4, atol=1e-3)
    for latents, actions in zip(rows.extra["latents"], rows.actions, strict=True):
        assert latents[1:].equal(actions[:-1])
    assert rows.extra["sigmas"][0][1:, 0].equal(rows.extra["sigmas"][0][:-1, 1]) and rows.extra["sigmas"][0][-1, 1] == 0
    alone = flow.rollout([rows.contexts[1]], [1], [1])  # row 1's chance is its seed's
    torch.testing.assert_close(alone.actions[0], rows.actions[1], rtol=1e-4, atol=1e-4)
    assert not rows_of(flow, seed=9).actions[0].equal(rows.actions[0])
    still = policy(folder, temperature=0.0)
    assert (rows_of(still).actions[0] - still.dist(rows_of(still)).mean_ND[:4]).abs().max() < 1e-5


def test_no_gradient_goes_from_a_step_into_the_one_before(folder):
    """The gradient over whole paths is the sum of those of single steps, each at a state that is given."""
    student, teacher = policy(folder, train=True), moved(folder)
    rows = rows_of(student)
    assert not any(x.requires_grad for x in (*rows.actions, *rows.extra["latents"], *rows.logp))

    def gradient(parts):
        for part in parts:
            Objective.from_method(EXACT | {"aggregate": "seq_sum"}, 4).backward(student, part, {}, {"teacher": teacher})
        found = torch.cat([p.grad.flatten() for p in student.model.parameters() if p.grad is not None])
        student.model.zero_grad()
        return found

    cut = lambda column, t: [value[t : t + 1] for value in column]
    single = [
        rows.with_columns(
            actions=cut(rows.actions, t), logp=cut(rows.logp, t), extra={k: cut(v, t) for k, v in rows.extra.items()}
        )
        for t in range(4)
    ]
    whole = gradient([rows])
    assert whole.norm() > 0
    torch.testing.assert_close(gradient(single), whole, rtol=1e-3, atol=1e-5)


def test_teachers_change_nothing_of_the_rows(folder, tmp_path):
    world, student = NewWord(part="new", train=4, test=4), policy(folder)
    world.write(SimpleNamespace(stage=tmp_path, seed=0))
    pool = world.pool(tmp_path, "train", student)
    rows = pool.play(student, [0, 1], [5, 6])
    seen = View("told", ModelTeacher(moved(folder)), Pictured(), pool, 0).prepare(rows)
    same = lambda a, b: all(x.equal(y) for x, y in zip(a, b, strict=True))
    assert same(seen.actions, rows.actions) and same(seen.logp, rows.logp) and seen.reward_B.equal(rows.reward_B)
    assert seen.contexts == rows.contexts and seen.extra.keys() == {*rows.extra, "context:told"}
    assert seen.extra["context:told"][0]["image"].shape == (3, 8, 8)


def test_a_student_is_no_way_from_itself_but_where_it_is_told_more(folder, tmp_path):
    world, student = NewWord(part="new", train=4, test=4), policy(folder)
    world.write(SimpleNamespace(stage=tmp_path, seed=0))
    pool = world.pool(tmp_path, "train", student)
    rows = View("told", ModelTeacher(student), Pictured(), pool, 0).prepare(pool.play(student, [0, 1], [5, 6]))
    assert student.dist(rows).kl(student.dist(rows, "teacher")).abs().max() == 0
    assert student.dist(rows).kl(student.dist(rows, "told")).min() > 0
    with pytest.raises(UserError, match="sees none"):
        policy(folder, SD3()).dist(rows, "told")


def test_guidance_goes_beyond_the_prompt(folder):
    plain, guided = policy(folder), policy(folder, SD3(patches=2, guidance=4.5))
    x, sigma = torch.randn(2, 192), torch.tensor([0.9, 0.4])
    told, empty = plain.encoder.encode(["red block", "red block"]), plain.encoder.encode(["", ""])
    with torch.no_grad():
        base, with_prompt = plain.velocity(x, sigma, empty), plain.velocity(x, sigma, told)
        torch.testing.assert_close(guided.velocity(x, sigma, told), base + 4.5 * (with_prompt - base))


def test_a_diffusers_pipeline_loads_the_folder_and_makes_the_same_images(folder):
    from diffusers import StableDiffusion3Pipeline

    flow = policy(folder, temperature=0.0)
    rows = rows_of(flow, 2)
    pipe = StableDiffusion3Pipeline.from_pretrained(folder / "model", local_files_only=True, **dict.fromkeys(LEFT_OUT))
    pipe.set_progress_bar_config(disable=True)
    tokens, pooled = flow.encoder.encode(list(rows.contexts))
    start = torch.stack([x[0] for x in rows.extra["latents"]]).view(2, 3, 8, 8)
    made = pipe(
        prompt_embeds=tokens,
        pooled_prompt_embeds=pooled,
        latents=start,
        height=64,
        width=64,
        num_inference_steps=4,
        guidance_scale=1.0,
        output_type="latent",
    ).images
    torch.testing.assert_close(made.flatten(1), torch.stack([a[-1] for a in rows.actions]), rtol=1e-4, atol=1e-4)


def test_equal_weights_give_equal_bytes(folder, tmp_path):
    flow = policy(folder)
    flow.family.save(flow, tmp_path)
    files = lambda place: {str(p.relative_to(place)): p.read_bytes() for p in place.rglob("*") if p.is_file()}
    assert files(tmp_path) == files(folder)


# prompts and their judges


def test_words_and_patches():
    encoder = WordVectors(words=3, patches=2, width=5, pooled=4)
    tokens, pooled = encoder.encode(["red block", {"prompt": "red block", "image": torch.ones(3, 8, 8)}])
    assert tokens.shape == (2, 7, 5) and pooled.shape == (2, 4)
    assert tokens[0, :3].equal(tokens[1, :3]) and pooled[0].equal(pooled[1]) and tokens[0, 2:].abs().sum() == 0
    assert tokens[1, 3:].abs().min() > 0
    with pytest.raises(UserError, match="4 words, the model reads 3"):
        encoder.encode(["a b c d"])


def test_blocks_are_judged_by_the_nearest_clean_image(folder, tmp_path):
    world = Blocks(third="ground", train=30, test=6)
    facts = world.write(SimpleNamespace(stage=tmp_path, seed=0))
    assert facts["splits"] == {"train": 30, "test": 6, "ood": 6}
    pool = world.pool(tmp_path, "test", policy(folder))
    assert [pool.column("task", i) for i in range(6)] == ["first", "second", "third"] * 2
    rows = pool.written("solution").rows([0, 1, 2])
    ends = [
        x[:1] - (x[:1] - y[:1]) * s[0, 0]
        for x, y, s in zip(rows.extra["latents"], rows.actions, rows.extra["sigmas"], strict=True)
    ]
    rows = rows.with_columns(actions=ends)  # the image at the end of each line
    gap, fits = pool.distances(rows)
    assert gap.min(-1).values.abs().max() < 1e-3 and fits.sum(-1).tolist() == [8, 8, 16]
    assert min(pool.rewards(rows)) > 0.9
    assert pool.show(rows)[0] == str(tuple(pool.data[0][name] for name in ("colour", "cell", "ground")))
    wrong = rows.with_columns(prompt_B=torch.tensor([3, 4, 5]))
    asked = [(pool.data[i][pool.data[i]["trait"]], pool.data[j][pool.data[i]["trait"]]) for i, j in ((3, 0), (4, 1), (5, 2))]
    assert [round(r) for r in pool.rewards(wrong)] == [int(a == b) for a, b in asked]


def test_strays_are_in_the_corpus_alone(folder, tmp_path):
    world = Blocks(train=400, test=2, wrong=0.4, only="first")
    world.write(SimpleNamespace(stage=tmp_path, seed=0))
    pool = world.pool(tmp_path, "train", policy(folder))
    right = [row["stray"] == row[row["trait"]] for row in pool.data]
    assert {row["task"] for row in pool.data} == {"first"} and 0.62 < sum(right) / 400 < 0.78  # .6, and a quarter of .4
    whole = [pool.images["corpus"](row).equal(pool.images["solution"](row)) for row in pool.data]
    assert whole == right
