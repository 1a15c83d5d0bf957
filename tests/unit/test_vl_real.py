"""Your own pictures and videos, and Qwen3-VL in the widths of its 8B: one layer of language and of vision, forward and backward."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from transformers import Qwen2VLImageProcessorPil, Qwen3VLConfig, Qwen3VLForConditionalGeneration

from opd_steps.errors import UserError
from opd_steps.loop.objective import Objective
from opd_steps.models.families import named
from opd_steps.models.families.vl import MARKS, VL
from opd_steps.models.folder import save_model
from opd_steps.models.numerics import Numerics
from opd_steps.models.tokenizers import byte_tokenizer
from opd_steps.store.artifacts import MANIFEST
from opd_steps.tasks.seen_audit import longest_seen
from opd_steps.tasks.worlds.gallery import Gallery
from opd_steps.teachers.contexts.crop import Crop
from tests.unit.test_vl import FAMILY, JSD, TINY, said

ROW = {"prompt": "what is it?", "answer": "a cat", "image": "a.png", "box": [4, 2, 12, 6]}
LANGUAGE = {  # text_config and vision_config of Qwen3-VL-8B-Instruct, but for their depth and the vocabulary
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "rope_parameters": {"rope_type": "default", "rope_theta": 5000000.0, "mrope_section": [24, 20, 20]},
}
EYES = {"hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16, "out_hidden_size": 4096, "patch_size": 16}


@pytest.fixture(autouse=True)
def facts_alone(monkeypatch):
    """A data folder here has the facts of a manifest, and no more of it."""
    monkeypatch.setattr("opd_steps.tasks.asking.read_manifest", lambda folder: json.loads((folder / MANIFEST).read_text()))


def gallery(folder, rows, **options):
    Image.linear_gradient("L").resize((16, 12)).convert("RGB").save(folder / "a.png")
    (folder / "clip").mkdir(exist_ok=True)
    for i in range(3):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(folder / f"clip/{i}.png")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    world = Gallery(str(folder / "rows.jsonl"), test=1, **options)
    facts = world.write(SimpleNamespace(stage=folder, seed=0, options={"verifier": {"name": "exact"}}))
    (folder / MANIFEST).write_text(json.dumps({"facts": facts}))
    return world


def test_pictures_are_asked_about_whole_and_in_part(tmp_path):
    FAMILY.make(SimpleNamespace(stage=tmp_path, seed=0, options={"path": None, "revision": None, "config": TINY}))
    model = FAMILY.policy(tmp_path, sampling={"temperature": 1.0, "max_new_tokens": 3})
    world = gallery(tmp_path, [ROW] * 4)
    pool = world.pool(tmp_path, "train", model)
    whole, near = (pool.shown(0, view)["seen"] for view in ("scene", "crop"))
    assert whole.shape == (1, 3, 12, 16) and near.equal(whole[:, :, 2:6, 4:12])
    rows = Crop().prepare(pool.play(model, [0, 1], [0, 1]), pool, 0, "crop")
    assert said(model, rows, "crop").logp_NV.isfinite().all()  # of another size, so of other tokens
    assert pool.written("solution").actions[0].tolist()[-1] == model.tokenizer.eos_token_id


def test_videos_are_folders_of_frames(tmp_path):
    FAMILY.make(SimpleNamespace(stage=tmp_path, seed=0, options={"path": None, "revision": None, "config": TINY}))
    model = FAMILY.policy(tmp_path, sampling={"temperature": 1.0, "max_new_tokens": 3})
    row = {"prompt": "when?", "answer": "0-1", "frames": "clip"}
    world = gallery(tmp_path, [row] * 4, rate=1.0)
    pool = world.pool(tmp_path, "train", model)
    assert pool.shown(0, "scene")["seen"][:, 0, 0, 0].tolist() == [0, 1, 2]
    assert pool.play(model, [0], [0]).reward_B.isfinite().all()
    with pytest.raises(UserError, match="2 to 2 frames, found 3"):
        gallery(tmp_path, [row] * 4, most=2).pool(tmp_path, "train", model).shown(0, "scene")
    with pytest.raises(UserError, match="names no box"):
        pool.shown(0, "crop")


def test_rows_are_measured_by_the_heads_of_their_files(tmp_path, monkeypatch):
    """As many tokens as a model reads of them; a picture that is not there is told before anybody looks."""
    FAMILY.make(SimpleNamespace(stage=tmp_path, seed=0, options={"path": None, "revision": None, "config": TINY}))
    model = FAMILY.policy(tmp_path)
    clip = {"prompt": "when?", "answer": "0-1", "frames": "clip"}
    world = gallery(tmp_path, [ROW, clip, ROW | {"prompt": "what is it in all the world?"}, ROW, ROW])
    facts = json.loads((tmp_path / MANIFEST).read_text())["facts"] | {"task": named(world)}
    monkeypatch.setattr("opd_steps.tasks.seen_audit.read_manifest", lambda folder: {"facts": facts})
    reading, pool = FAMILY.reading(tmp_path / "model"), world.pool(tmp_path, "train", model)
    counts = [len(model.tokens(context)) for context in pool.contexts(range(3))]
    with monkeypatch.context() as patch:
        patch.setattr("opd_steps.tasks.seen_files._read", lambda *_: pytest.fail("it looked"))
        assert longest_seen(tmp_path, reading, "train") == (
            max(counts),
            f"{tmp_path}/train.jsonl:{counts.index(max(counts)) + 1}",
        )
        said = len(model.tokenizer("a cat", add_special_tokens=False)["input_ids"]) + 1
        assert longest_seen(tmp_path, reading, "train", "solution", 1) == (counts[0] + said, f"{tmp_path}/train.jsonl:1")
        near = len(model.tokens(world.pool(tmp_path, "train", model).sized(0, "crop")))
        assert longest_seen(tmp_path, reading, "train", limit=1, context='{"name": "crop"}')[0] == near < counts[0]
    with pytest.raises(UserError, match=r"train.jsonl:2: .*names no box"):
        longest_seen(tmp_path, reading, "train", context='{"name": "crop"}')
    (tmp_path / "a.png").unlink()
    with pytest.raises(UserError, match=r"train.jsonl:1: .*a.png: not a readable image"):
        longest_seen(tmp_path, reading, "train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": 3}, "expected a prompt, an answer"),
        ({"frames": "clip"}, "either image or frames"),
        ({"box": [1, 2, 3]}, "left, top, right, bottom"),
        ({"box": [4, 2, 4, 6]}, "left before right"),
    ],
)
def test_rows_that_cannot_be_asked_are_refused(tmp_path, change, message):
    with pytest.raises(UserError, match=message) as error:
        gallery(tmp_path, [ROW, ROW | change, ROW, ROW])
    assert error.value.where.endswith("rows.jsonl:2")


def test_too_few_rows_are_refused(tmp_path):
    with pytest.raises(UserError, match="none is left to train on"):
        gallery(tmp_path, [ROW, ROW])


def test_a_batch_goes_through_the_widths_of_8b(tmp_path):
    """Linked as a checkpoint, in bf16, one update's gradient of Vision-OPD: the student sees 256 x 192 pixels, the teacher a part of them."""
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(list(MARKS), special_tokens=True)
    marks = dict(
        zip(("vision_start", "vision_end", "image", "video"), tokenizer.convert_tokens_to_ids(list(MARKS)), strict=True)
    )
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "vocab_size": len(tokenizer)}
    eyes = EYES | {"depth": 1, "deepstack_visual_indexes": [0]}
    config = Qwen3VLConfig(
        text_config=LANGUAGE | ends | {"num_hidden_layers": 1},
        vision_config=eyes,
        **{f"{k}_token_id": v for k, v in marks.items()},
    )
    torch.manual_seed(0)
    hub = tmp_path / "hub"
    with torch.device("meta"):
        model = Qwen3VLForConditionalGeneration(config)
    model = model.to(torch.bfloat16).to_empty(device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0) if parameter.ndim == 1 else parameter.normal_(0, 0.02)
    save_model(model, tokenizer, hub)
    Qwen2VLImageProcessorPil(patch_size=16, size={"shortest_edge": 65536, "longest_edge": 16777216}).save_pretrained(hub)
    del model
    family = VL()
    facts = family.make(SimpleNamespace(stage=tmp_path, seed=0, sources={}, options={"path": str(hub), "revision": None}))
    assert facts["kind"] == "external" and facts["ends"] == [tokenizer.eos_token_id]
    student = family.policy(
        tmp_path,
        train=True,
        numerics=Numerics("bfloat16", "bfloat16", recompute=True),
        sampling={"temperature": 1.0, "max_new_tokens": 2},
    )
    draw = torch.Generator().manual_seed(0)
    seen = torch.randint(0, 256, (1, 3, 192, 256), dtype=torch.uint8, generator=draw)
    row = {"prompt": "What colour is the sign?", "seen": seen, "rate": 1.0}
    assert student.sight.grid((1, 3, 192, 256)) == (1, 14, 20)  # at least 65,536 pixels: 224 x 320 of them
    rows = student.rollout([row], [0], [0]).with_context("crop", [row | {"seen": seen[:, :, 64:128, 64:128]}])
    found = Objective.from_method(JSD, 2).backward(student, rows, {}, {"crop": student})
    assert found["divergence"] > 0 and student.model.model.visual.merger.linear_fc2.weight.grad.abs().sum() > 0
