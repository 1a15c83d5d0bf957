"""Stable Diffusion 3 as it lies on the hub: its folder with all parts (tiny ones), its shape (on the meta device), and judges of images."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from PIL import Image

from opd_steps.errors import UserError
from opd_steps.models.families.sd3 import SD3
from opd_steps.models.flow_policy import FlowPolicy
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.tasks.clip_judge import MEAN, STD, UNIT, ClipJudge
from opd_steps.tasks.worlds.captions import Captions
from tests.unit.sd3_toys import write_judge, write_pipeline

MEDIUM = {  # transformer/config.json of stable-diffusion-3.5-medium
    "sample_size": 128,
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "num_layers": 24,
    "attention_head_dim": 64,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "caption_projection_dim": 1536,
    "pooled_projection_dim": 2048,
    "pos_embed_max_size": 384,
    "dual_attention_layers": tuple(range(13)),
    "qk_norm": "rms_norm",
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    return write_pipeline(tmp_path_factory.mktemp("hub"))


def linked(hub, folder, family, **options):
    job = SimpleNamespace(stage=folder, seed=0, options={"path": str(hub), "revision": None, "config": {}} | options)
    return family.make(job)


def test_a_pipeline_is_linked_sampled_trained_and_saved(hub, tmp_path):
    family = SD3(guidance=4.5)
    assert linked(hub, tmp_path, family)["kind"] == "external"
    flow = family.policy(tmp_path, train=True, sampling={"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 3})
    rows = flow.rollout(["a red cat", "a cat"], [0, 1], [5, 6])
    assert rows.actions[0].shape == (3, 4 * 8 * 8) and flow.images(torch.stack([a[-1] for a in rows.actions])).shape == (
        2,
        3,
        8,
        8,
    )
    tokens, pooled = flow.encoder.encode(["a red cat", "a cat", "a red cat"])
    want = flow.encoder.pipe.encode_prompt(
        ["a red cat"], None, None, do_classifier_free_guidance=False, max_sequence_length=128
    )
    torch.testing.assert_close(tokens[2:], want[0])
    torch.testing.assert_close(pooled[2:], want[2])
    flow.dist(rows).logp(rows.action_N).sum().backward()
    assert flow.model.proj_out.weight.grad.abs().sum() > 0
    flow.family.save(flow, tmp_path / "trained")
    again = family.policy(tmp_path / "trained", sampling={"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 3})
    assert again.rollout(["a cat"], [0], [6]).actions[0].equal(flow.rollout(["a cat"], [0], [6]).actions[0])
    with pytest.raises(UserError, match="reads text alone"):
        again.encoder.encode([{"prompt": "a cat", "image": torch.zeros(3, 8, 8)}])


def test_latents_and_images_are_the_vaes(hub, tmp_path):
    linked(hub, tmp_path, SD3())
    encoder = SD3().policy(tmp_path).encoder
    images = torch.rand(2, 3, 8, 8) * 2 - 1
    vae = encoder.pipe.vae
    with torch.no_grad():
        mean = vae.encode(images).latent_dist.mean
        torch.testing.assert_close(encoder.latents(images), (mean - 0.06) * 1.5)
        torch.testing.assert_close(encoder.decode(encoder.latents(images)), vae.decode(mean, return_dict=False)[0])


def test_a_folder_that_is_no_pipeline_is_refused(tmp_path):
    (tmp_path / "hub").mkdir()
    with pytest.raises(UserError, match="no pipeline of Stable Diffusion 3: it has no transformer/"):
        linked(tmp_path / "hub", tmp_path, SD3())


def test_a_batch_of_stable_diffusion_3_5_medium_goes_through():
    """At 512 pixels, 9 steps of one row that count, with guidance; on the meta device, forward and backward: shapes alone."""

    class Encoder:
        def encode(self, prompts):
            return torch.empty(len(prompts), 205, 4096, device="meta"), torch.empty(len(prompts), 2048, device="meta")

    with torch.device("meta"):
        model = SD3Transformer2DModel(**MEDIUM)
    assert 2e9 < sum(p.numel() for p in model.parameters()) < 3e9
    sampling = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 10}
    flow = FlowPolicy(model, FlowMatchEulerDiscreteScheduler(shift=3.0), Encoder(), SD3(guidance=4.5, side=64), sampling, 1)
    state = torch.empty(9, 16 * 64 * 64, device="meta")
    times = flow.times()
    pairs = torch.stack([times[:-1], times[1:]], 1)[:9]
    rows = Trajectory(["a cat"], [state], torch.tensor([0]), extra={"latents": [state], "sigmas": [pairs]})
    dist = flow.dist(rows)
    assert dist.mean_ND.shape == (9, 16 * 64 * 64)
    dist.kl(flow.dist(rows)).sum().backward()
    assert model.proj_out.weight.grad.shape == model.proj_out.weight.shape


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    return write_judge(tmp_path_factory.mktemp("judge"))


def test_a_judge_is_the_scaled_cosine(judge):
    found = ClipJudge(str(judge))
    white = found.pixels(torch.ones(1, 3, 32, 32))
    torch.testing.assert_close(white[0, :, 3, 5], (1 - torch.tensor(MEAN)) / torch.tensor(STD))
    images, said = torch.rand(2, 3, 32, 32) * 2 - 1, ["a red cat", "a cat"]
    told = found.tokenizer(said, padding=True, return_tensors="pt")
    with torch.no_grad():
        out = found.model(pixel_values=found.pixels(images), **told)
    want = out.logits_per_text.diagonal() / UNIT
    torch.testing.assert_close(found.score(images, said), want)


def test_captions_are_split_judged_and_learned_from(judge, hub, tmp_path):
    rows = [{"prompt": "a cat", "task": ("first", "second")[i % 2], "image": "a.png"} for i in range(12)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Image.new("RGB", (12, 10), (255, 0, 0)).save(tmp_path / "a.png")
    world = Captions(str(tmp_path / "p.jsonl"), {"first": str(judge), "second": str(judge)}, only="second", test=2, side=8)
    assert world.write(SimpleNamespace(stage=tmp_path, seed=0))["splits"] == {"train": 4, "ood": 2, "test": 2}
    linked(hub, tmp_path, SD3())
    flow = SD3().policy(tmp_path, sampling={"temperature": 0.0, "top_p": 1.0, "max_new_tokens": 2})
    pool = world.pool(tmp_path, "train", flow)
    played = pool.play(flow, [0, 1], [0, 1])
    images = flow.images(torch.stack([a[-1] for a in played.actions]))
    torch.testing.assert_close(played.reward_B, ClipJudge(str(judge)).score(images, ["a cat"] * 2))
    written = pool.written("solution")
    red = flow.encoder.latents(torch.tensor([1.0, -1.0, -1.0])[:, None, None].expand(1, 3, 8, 8))[0].flatten()
    state, action, times = written.extra["latents"][0], written.actions[0], written.extra["sigmas"][0]
    torch.testing.assert_close((state - times[:, :1] * (state - action))[0], red, rtol=1e-3, atol=1e-3)  # the line's other end
    with pytest.raises(UserError, match=r"p.jsonl:1: expected a prompt, and a task that has a judge: third"):
        Captions(str(tmp_path / "p.jsonl"), {"third": str(judge)}).write(SimpleNamespace(stage=tmp_path, seed=0))
