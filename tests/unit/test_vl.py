"""Models that see: pixels as the library has them, one distribution while sampling and after, crops, intervals, selection."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForImageTextToText, Qwen2VLImageProcessorPil

from opd_steps.errors import UserError
from opd_steps.loop.objective import Objective
from opd_steps.models.families.vl import VL
from opd_steps.nouns.draw import Draw
from opd_steps.objectives.stream import VANILLA
from opd_steps.prefixes.from_crop import FromCrop
from opd_steps.seeds import rng
from opd_steps.tasks.asking import Task
from opd_steps.tasks.seen_pool import SeenPool
from opd_steps.tasks.selection.by_teacher_gap import ByTeacherGap
from opd_steps.tasks.verifiers.interval import Interval, iou
from opd_steps.tasks.worlds.moments import Moments
from opd_steps.tasks.worlds.spots import Spots
from opd_steps.teachers.contexts.crop import Crop

VISION = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "patch_size": 2, "out_hidden_size": 16}
TEXT = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
ROPE = {"rope_type": "default", "rope_theta": 100.0, "mrope_section": [2, 1, 1]}
TINY = {
    "vision_config": VISION | {"num_position_embeddings": 16, "deepstack_visual_indexes": [0], "initializer_range": 0.3},
    "text_config": TEXT | {"head_dim": 8, "max_position_embeddings": 128, "initializer_range": 0.3, "rope_parameters": ROPE},
}
FAMILY = VL(template="see {seen} {prompt}:", stamp="{t:.0f}")
WORLD = Spots(cells=4, pixels=2, train=6, test=2)
JSD = VANILLA | {
    "signal": {"name": "jsd", "beta": 0.5},
    "support": {"name": "student_topk", "k": 8, "norm": "tail"},
    "estimator": {"name": "exact"},
    "weight": [{"name": "importance", "cap": 2.0}],
    "against": "crop",
    "aggregate": "token_mean",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("eyes")
    FAMILY.make(SimpleNamespace(stage=place, seed=0, options={"path": None, "revision": None, "config": TINY}))
    return place


def policy(folder, train=False, **sampling):
    return FAMILY.policy(folder, train=train, sampling={"temperature": 1.0, "max_new_tokens": 4} | sampling)


def pool(model, world=WORLD, count=6):
    rows = [world._row("train", i, rng(i)) if world is WORLD else world._row(rng(i)) for i in range(count)]
    rows = [{"id": str(i), **row} for i, row in enumerate(rows)]
    views = {"scene": world.picture, "crop": world.crop} if world is WORLD else {"scene": world.video, "rate": 2.0}
    verifier = "exact" if world is WORLD else "interval"
    return SeenPool(rows, Task({"name": verifier}, {"name": "none"}, False, None), model.tokenizer, "here", **views)


def said(model, rows, role="student"):
    with torch.no_grad():
        dist = model.dist(rows, role)
    return dist.chunk(0, len(dist))


def mixed(count=8):
    """Pictures and videos of several sizes beside questions of several lengths."""
    draw, shapes = torch.Generator().manual_seed(0), [(1, 3, 8, 8), (4, 3, 4, 8), (1, 3, 4, 4), (3, 3, 4, 4)]
    byte = lambda shape: torch.randint(0, 256, shape, dtype=torch.uint8, generator=draw)
    return [{"prompt": "ab" * (i % 3), "seen": byte(shapes[i % 4]), "rate": 2.0} for i in range(count)]


# the policy


def test_log_probs_of_what_was_sampled_are_those_of_the_forward_pass(folder):
    model, contexts = policy(folder), mixed()
    rows = model.rollout(contexts + contexts[:3], range(11), range(11))
    assert rows.contexts[9]["seen"].equal(contexts[1]["seen"])
    torch.testing.assert_close(said(model, rows).logp(rows.action_N), rows.logp_N, atol=2e-5, rtol=0)
    for i in range(8):  # whatever the batch
        alone = model.rollout([contexts[i]], [i], [i])
        assert alone.actions[0].equal(rows.actions[i])


def test_positions_are_those_that_the_library_computes(folder):
    model, context = policy(folder), mixed()[1]
    tokens = torch.tensor([[*model.tokens(context), 70, 71]])
    how, _ = model.shown([context], tokens.shape[1])
    kinds = (tokens == model.model.config.video_token_id) * 2
    place = model.model.model.get_rope_index(tokens, mm_token_type_ids=kinds, video_grid_thw=how["video_grid_thw"])[0]
    assert how["position_ids"].equal(place)


def test_greedy_text_is_that_of_the_library(folder):
    model, context = policy(folder, temperature=0.0, max_new_tokens=5), mixed()[0]
    ours = model.rollout([context], [0], [0]).actions[0]
    tokens, library = torch.tensor([model.tokens(context)]), AutoModelForImageTextToText.from_pretrained(folder / "model")
    how = {name: x for name, x in model.shown([context], tokens.shape[1])[0].items() if name != "position_ids"}
    kinds = (tokens == library.config.image_token_id).int()
    made = library.generate(tokens, mm_token_type_ids=kinds, do_sample=False, max_new_tokens=5, **how)
    assert made[0, tokens.shape[1] :].tolist() == ours.tolist()


def test_equal_words_beside_other_pictures_are_other_prompts(folder):
    model, two = policy(folder), pool(policy(folder)).contexts([0, 1])
    assert two[0]["prompt"] == two[1]["prompt"] and not two[0]["seen"].equal(two[1]["seen"])
    rows = model.rollout(two, [0, 1], [7, 7])
    first = said(model, rows).logp_NV[[0, len(rows.actions[0])]]
    assert not torch.allclose(first[0], first[1])


def test_a_mark_for_pictures_that_it_writes_itself_stands_for_none(folder):
    model = policy(folder)
    rows = model.rollout(mixed(1), [0], [0])
    odd = rows.with_columns(actions=[torch.tensor([5, model.model.config.image_token_id, 7])])
    assert said(model, odd).logp_NV.isfinite().all()


def test_a_video_is_read_behind_its_times(folder):
    model = policy(folder)
    tokens = model.tokens({"prompt": "x", "seen": torch.zeros(4, 3, 4, 8, dtype=torch.uint8), "rate": 2.0})
    one = "<|vision_start|><|video_pad|><|video_pad|><|vision_end|>"
    assert model.tokenizer.decode(tokens) == f"see 0{one}1{one} x:"


# pixels


@pytest.mark.parametrize("shape", [(8, 8), (9, 14), (4, 30)])
def test_patches_are_those_of_the_librarys_processor(folder, shape):
    sight = policy(folder).sight
    image = torch.randint(0, 256, (1, 3, *shape), dtype=torch.uint8)
    made = Qwen2VLImageProcessorPil.from_pretrained(folder / "model")([image[0].permute(1, 2, 0).numpy()], return_tensors="pt")
    assert made["image_grid_thw"][0].tolist() == list(sight.grid(tuple(image.shape)))
    torch.testing.assert_close(sight.patches(image), made["pixel_values"], atol=1e-6, rtol=0)


@pytest.mark.parametrize(("least", "most"), [(1, 1000), (4000, 9000)])
def test_sizes_are_bounded_as_there(folder, least, most):
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    sight = replace(policy(folder).sight, image=(least, most))
    for high, wide in ((30, 50), (100, 20), (64, 64)):
        h, w = smart_resize(high, wide, 4, least, most)
        assert sight.grid((1, 3, high, wide)) == (1, h // 2, w // 2)


def test_frames_stand_in_pairs_and_the_last_is_repeated(folder):
    sight = policy(folder).sight
    frames = torch.arange(3, dtype=torch.uint8)[:, None, None, None].repeat(1, 3, 4, 4)
    patches = sight.patches(frames).view(2, 4, 3, 2, 2, 2)  # t, patches of it, channel, frame, row, column
    level = ((patches + 1) / 2 * 255).round().long()
    assert level[0, :, :, 0].unique().tolist() == [0] and level[0, :, :, 1].unique().tolist() == [1]
    assert level[1].unique().tolist() == [2]
    assert sight.times(3, 2.0) == [0.25, 1.0]


# the teacher that sees the crop


def test_the_crop_is_the_region_about_the_bright_spot(folder):
    here = pool(policy(folder))
    for i, row in enumerate(here.rows):
        whole, near = (here.shown(i, view)["seen"][0] for view in ("scene", "crop"))
        top, left, bottom, right = row["box"]
        assert near.shape == whole.shape and near[:, ::2, ::2].equal(whole[:, top:bottom, left:right])
        down, across = (2 * at for at in row["spots"][0][:2])
        assert top <= down < bottom and left <= across < right and int(near.max()) == 255


def test_divergence_is_0_for_the_same_weights_in_the_same_view_and_not_in_another(folder):
    student, teacher = policy(folder, train=True), policy(folder)
    here = pool(student)
    rows = here.play(student, range(6), range(6))
    found = lambda rows: Objective.from_method(JSD, 4).backward(student, rows, {}, {"crop": teacher})["divergence"]
    view = Crop().prepare(rows, here, 0, "crop")
    assert view.extra["context:crop"][0]["seen"].equal(here.shown(0, "crop")["seen"])
    assert abs(found(rows)) < 1e-7 and found(view) > 1e-4
    assert view.has_context_B("crop").all() and not rows.has_context_B("crop").any()


def test_what_the_student_sampled_does_not_know_of_the_teacher(folder):
    student = policy(folder)
    here = pool(student)
    rows = here.play(student, range(6), range(6))
    view = Crop().prepare(rows, here, 0, "crop")
    assert all(a.equal(b) for a, b in zip(view.actions, rows.actions, strict=True))
    assert all(a["seen"].equal(here.shown(i, "scene")["seen"]) for i, a in enumerate(view.contexts))
    assert said(student, view).logp_NV.equal(said(student, rows).logp_NV)


def test_answers_from_the_crop_stand_beside_the_whole_picture(folder):
    model = policy(folder, max_new_tokens=3)
    here = pool(model)
    draw = Draw(1, 0, [2, 0], 2, 5, model, {"teacher": model}, here, None, "", None)
    rows = FromCrop().rows(draw).rows
    assert rows.prompt_B.tolist() == [2, 2, 0, 0]
    assert all(
        c["seen"].equal(here.shown(i, "scene")["seen"]) for c, i in zip(rows.contexts, rows.prompt_B.tolist(), strict=True)
    )
    near = rows.with_columns(contexts=[here.shown(i, "crop") for i in rows.prompt_B.tolist()])
    torch.testing.assert_close(said(model, near).logp(rows.action_N), rows.logp_N, atol=2e-5, rtol=0)


def test_pictures_are_no_decisions(folder):
    with pytest.raises(UserError, match="loss_on"):
        pool(policy(folder)).written("solution", "all")
    with pytest.raises(UserError, match="no crop"):
        pool(policy(folder), Moments()).shown(0, "crop")


# videos


def test_overlap_by_hand():
    assert iou((1, 3), (2, 5)) == pytest.approx(1 / 4)
    assert iou((0, 2), (0, 2)) == 1 and iou((0, 2), (2, 4)) == 0 and iou((0, 8), (2, 4)) == pytest.approx(1 / 4)
    judge = Interval()
    assert judge.score("2-4", "2-4") == 1 and judge.score("4-2", "2-4") == 0 and judge.score("3", "2-4") == 0
    assert judge.score("from 1.5 to 3.5 seconds", "2, 4") == pytest.approx(1.5 / 2.5)


def test_a_video_shows_what_its_answer_says():
    world = Moments()
    for i in range(20):
        row = world._row(rng(i))
        start, end = map(int, row["answer"].split("-"))
        frames = world.video(row)[:, :, 0, 0].float() / 255
        lit = [t for t in range(16) if ((frames[t] > 0.5) == torch.tensor(_rgb(row["prompt"]))).all()]
        assert lit == list(range(start * 2, end * 2))


def _rgb(name):
    from opd_steps.tasks.worlds.moments import COLOURS

    return [bool(x) for x in COLOURS[name]]


def test_only_what_is_written_of_yellow_is_wrong():
    rows = [Moments()._row(rng(i)) for i in range(200)]
    wrong = {row["prompt"] for row in rows if row["corpus"] != row["answer"]}
    assert wrong == {"yellow"} and all(row["solution"] == row["answer"] for row in rows)


# selection


def test_prompts_where_the_teacher_is_reliable_and_ahead():
    rates = {0: (0.9, 1.0), 1: (0.1, 0.9), 2: (0.0, 0.4), 3: (0.5, 0.6), 4: (0.2, 0.8), 5: (0.8, 0.9)}
    select = ByTeacherGap(reliable=0.5, keep=0.5)
    assert select.kept(0, rates) == [0, 1, 4]  # ahead by .1, .8, .6; equals in the order of the data
    assert 2 not in ByTeacherGap(reliable=0.5, keep=1.0).kept(0, rates)
    assert ByTeacherGap(reliable=0.5, keep=1 / 3).kept(0, rates) == [1, 4]
    assert sorted(select.pick(6, 0, 1, 3, rates)) == select.kept(0, rates)
    assert len(ByTeacherGap(reliable=0.0, keep=0.5, rank="chance").kept(0, rates)) == 3
    with pytest.raises(UserError, match="no prompt"):
        ByTeacherGap(reliable=1.0).kept(0, {0: (0.0, 0.5)})


# checkpoints


def test_a_checkpoint_is_loaded_by_the_library_and_saved_to_the_same_bytes(folder, tmp_path):
    model = policy(folder)
    FAMILY.save(model, tmp_path)
    for file in ("model.safetensors", "preprocessor_config.json", "config.json", "tokenizer.json"):
        assert (tmp_path / "model" / file).read_bytes() == (folder / "model" / file).read_bytes(), file
    assert type(AutoModelForImageTextToText.from_pretrained(tmp_path / "model")).__name__ == "Qwen3VLForConditionalGeneration"


def test_a_config_that_names_tokens_is_refused():
    job = SimpleNamespace(seed=0, options={"path": None, "config": {"image_token_id": 3}})
    with pytest.raises(UserError, match="follows from the tokenizer"):
        FAMILY.make(job)
    with pytest.raises(UserError, match="before"):
        VL(template="{prompt} {seen}").parts  # noqa: B018


def test_a_checkpoint_of_another_kind_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "tokenizer.json").write_text("{}")
    job = SimpleNamespace(stage=tmp_path, seed=0, sources={}, options={"path": str(tmp_path), "revision": None, "config": {}})
    with pytest.raises(UserError):
        FAMILY.make(job)
