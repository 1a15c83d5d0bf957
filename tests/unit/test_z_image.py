"""Z-Image as it lies on the hub: sampled as its own pipeline does it, trained, saved, its teacher shown an image; its shape on meta."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline
from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel
from PIL import Image

from opd_steps.errors import UserError
from opd_steps.loop.objective import Objective
from opd_steps.models.bases import Base, Tuning
from opd_steps.models.families.z_image import ZImage
from opd_steps.models.flow_policy import FlowPolicy
from opd_steps.models.numerics import Numerics
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.store.files import write_jsonl
from opd_steps.tasks.worlds.captions import Captions
from opd_steps.tune.lora import Lora
from tests.unit.sd3_toys import write_judge
from tests.unit.test_flow import EXACT
from tests.unit.z_image_toys import write_eyes, write_pipeline

TURBO = {  # transformer/config.json of Z-Image-Turbo
    "in_channels": 16,
    "dim": 3840,
    "n_layers": 30,
    "n_refiner_layers": 2,
    "n_heads": 30,
    "n_kv_heads": 30,
    "cap_feat_dim": 2560,
    "axes_dims": [32, 48, 48],
    "axes_lens": [1536, 512, 512],
}
FEW = {"temperature": 0.0, "top_p": 1.0, "max_new_tokens": 4}


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    return write_pipeline(tmp_path_factory.mktemp("hub"))


@pytest.fixture(scope="module")
def eyes(tmp_path_factory):
    return write_eyes(tmp_path_factory.mktemp("eyes"))


@pytest.fixture(scope="module")
def family(eyes):
    return ZImage(side=8, eyes=str(eyes), pixels=1024)


@pytest.fixture(scope="module")
def start(hub, family, tmp_path_factory):
    return linked(hub, tmp_path_factory.mktemp("start"), family)


def linked(hub, folder, family):
    family.make(SimpleNamespace(stage=folder, seed=0, options={"path": str(hub), "revision": None}))
    return folder


def test_samples_are_those_of_its_own_pipeline(hub, start, family):
    flow = family.policy(start, sampling=FEW)
    rows = flow.rollout(["a red cat", "of another length"], [0, 1], [5, 6])
    pipe = ZImagePipeline.from_pretrained(hub)
    pipe.set_progress_bar_config(disable=True)
    noise = torch.stack([states[0] for states in rows.extra["latents"]]).view(2, 4, 8, 8)
    how = {"num_inference_steps": 4, "guidance_scale": 0.0, "latents": noise, "output_type": "latent"}
    pipe.vae_scale_factor = 2  # so that a latent of 8 is what it makes of 16 pixels
    want = pipe(["a red cat", "of another length"], height=16, width=16, **how).images
    found = torch.stack([actions[-1] for actions in rows.actions]).view(2, 4, 8, 8)
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-5)
    assert flow.images(want.flatten(1)).shape == (2, 3, 8, 8)


def test_a_prompt_alone_is_read_as_beside_longer_ones(start, family):
    flow = family.policy(start, sampling=FEW)
    alone = flow.rollout(["a cat"], [0], [5])
    beside = flow.rollout(["a cat", "a cat " * 20], [0, 1], [5, 6])
    torch.testing.assert_close(alone.actions[0], beside.actions[0], rtol=1e-4, atol=1e-5)


def test_guidance_goes_from_nothing_to_the_prompt(hub, tmp_path, eyes):
    strong = ZImage(side=8, guidance=3.0)
    flow = strong.policy(linked(hub, tmp_path, strong), sampling=FEW)
    x_ND, sigma_N, told = torch.randn(1, 256), torch.tensor([0.7]), flow.encoder.encode(["a red cat"])
    with torch.no_grad():
        plain, prompted = (flow._model(x_ND, sigma_N, part) for part in (flow.encoder.encode([""]), told))
        torch.testing.assert_close(flow.velocity(x_ND, sigma_N, told), plain + 3 * (prompted - plain))


def test_what_sees_reads_a_prompt_behind_its_image(start, family):
    encoder = family.policy(start).encoder
    image = torch.rand(3, 16, 16) * 2 - 1
    tokens_BSD, length_B = encoder.encode(["a cat", {"prompt": "a cat", "image": image}, {"prompt": "a cat", "image": -image}])
    text, seen, other = (row[:length] for row, length in zip(tokens_BSD, length_B.tolist(), strict=True))
    said = encoder.eyes.tokens({"prompt": "a cat", "seen": torch.empty(1, 3, 16, 16), "rate": 1.0})
    assert len(seen) == len(other) == len(said)
    assert tokens_BSD[0, len(text) :].abs().sum() == 0 and not seen.equal(other)
    torch.testing.assert_close(seen[:5], other[:5])  # of the template: no image is seen there yet
    assert encoder.encode([{"prompt": "a cat", "image": torch.zeros(3, 0, 0)}])[0].equal(text[None])


def test_a_student_is_taught_by_itself_with_the_image_and_read_back(start, family, tmp_path):
    """An adapter: its own path, its own start as the teacher that sees."""
    base = Base("p/model/start/seed0", "", "")
    numerics = Numerics(recompute=True)
    flow = family.policy(start, train=True, sampling=FEW, numerics=numerics, tuning=Tuning(Lora(r=2), 1, base))
    assert all("lora_" in name for name, p in flow.model.named_parameters() if p.requires_grad)
    rows = flow.rollout(["a cat", "a red cat"], [0, 1], [5, 6])
    images = [torch.full((3, 16, 16), value) for value in (-1.0, 1.0)]
    shown = [{"prompt": prompt, "image": image} for prompt, image in zip(rows.contexts, images, strict=True)]
    rows = rows.with_context("teacher", shown)
    Objective.from_method(EXACT, 4).backward(flow, rows, {}, {"teacher": flow.begun()})
    gradients = [p.grad for p in flow.model.parameters() if p.requires_grad and p.grad is not None]
    assert gradients and all(g.isfinite().all() for g in gradients) and sum(g.abs().sum() for g in gradients) > 0


def test_all_weights_are_trained_and_saved_as_the_pipeline_reads_them(start, family, hub, tmp_path):
    flow = family.policy(start, train=True, sampling=FEW)
    with torch.no_grad():
        for p in flow.model.parameters():
            p.add_(0.01)
    family.save(flow, tmp_path)
    again = family.policy(tmp_path, sampling=FEW)
    assert again.rollout(["a cat"], [0], [6]).actions[0].equal(flow.rollout(["a cat"], [0], [6]).actions[0])
    others = {name: getattr(ZImagePipeline.from_pretrained(hub), name) for name in ("vae", "text_encoder", "tokenizer")}
    pipe = ZImagePipeline.from_pretrained(tmp_path / "model", **others)
    assert pipe.transformer.state_dict().keys() == flow.model.state_dict().keys()
    assert pipe.scheduler.config.shift == 3.0


def test_what_it_cannot_read_is_refused(hub, start, family, tmp_path):
    blind = ZImage(side=8)
    with pytest.raises(UserError, match=r"family.eyes: a context shows an image .*: expected a model that sees it"):
        blind.policy(linked(hub, tmp_path, blind)).encoder.encode([{"prompt": "a cat", "image": torch.zeros(3, 8, 8)}])
    with pytest.raises(UserError, match="path: expected a pipeline of Z-Image"):
        blind.make(SimpleNamespace(stage=tmp_path, seed=0, options={"path": None, "revision": None}))
    narrow = ZImage(side=8, eyes=str(write_eyes(tmp_path / "narrow", hidden_size=8)))
    with pytest.raises(UserError, match=r"says 8 numbers of each token: expected 16, as the text encoder does"):
        narrow.policy(linked(hub, tmp_path, narrow)).encoder.encode([{"prompt": "a cat", "image": torch.zeros(3, 8, 8)}])
    flow = family.policy(start, sampling=FEW)
    with pytest.raises(UserError, match=r"family.pixels: an image and its prompt are \d+ tokens: expected 512 at most"):
        flow.encoder.encode([{"prompt": "a cat " * 100, "image": torch.zeros(3, 16, 16)}])
    flow.scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    with pytest.raises(UserError, match="its scheduler shifts times by an image's size"):
        flow.times()


def test_captions_show_their_own_images(start, family, tmp_path):
    judge = str(write_judge(tmp_path / "judge"))
    Image.new("RGB", (32, 16), (255, 0, 0)).save(tmp_path / "red.png")
    rows = [{"prompt": "a red cat", "task": "new"} | ({"image": "red.png"} if i < 3 else {}) for i in range(4)]
    write_jsonl(tmp_path / "train.jsonl", [{"id": f"train/{i}", **row} for i, row in enumerate(rows)])
    world = Captions(path=str(tmp_path / "all.jsonl"), judges={"new": judge}, side=16)
    pool = world.pool(tmp_path, "train", family.policy(start))
    told = pool.pictured(0)
    assert told["prompt"] == "a red cat" and told["image"].shape == (3, 16, 16)
    assert told["image"][:, 0, 0].tolist() == [1.0, -1.0, -1.0]
    with pytest.raises(UserError, match="context: shows the image of a prompt, and train/3 names none"):
        pool.pictured(3)


def test_a_batch_of_z_image_turbo_goes_through():
    """At 512 pixels, 8 steps of one row, of which each counts; on the meta device, forward and backward: shapes alone."""

    class Encoder:
        def encode(self, prompts):
            return torch.empty(len(prompts), 80, 2560), torch.tensor([70] * len(prompts))

    with torch.device("meta"):
        model = ZImageTransformer2DModel(**TURBO)
    assert 6e9 < sum(p.numel() for p in model.parameters()) < 6.5e9
    sampling = {"temperature": 0.0, "top_p": 1.0, "max_new_tokens": 8}
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    flow = FlowPolicy(model, scheduler, Encoder(), ZImage(side=64), sampling, 1)
    times = flow.times()
    assert times.shape == (9,) and times[0] == 1 and times[-1] == 0
    state = torch.empty(8, 16 * 64 * 64, device="meta")
    rows = Trajectory(
        ["a cat"], [state], torch.tensor([0]), extra={"latents": [state], "sigmas": [torch.stack([times[:-1], times[1:]], 1)]}
    )
    dist = flow.dist(rows)
    assert dist.mean_ND.shape == (8, 16 * 64 * 64)
    dist.kl(flow.dist(rows)).sum().backward()
    assert model.x_pad_token.grad is not None
