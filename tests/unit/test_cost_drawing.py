"""What a step of flows holds at its most: the estimate against live tensors on a CPU; and what `plan` says of the nodes that train them."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel

from opd_steps.config.merge import merge
from opd_steps.graph.cost.around import JUDGES
from opd_steps.graph.cost.drawing import PIXEL, SIDE, Drawing, decisions
from opd_steps.graph.cost.known import published
from opd_steps.graph.cost.memory import GB, fit, judged
from opd_steps.graph.cost.needs import LIBRARIES
from opd_steps.graph.cost.rows import Length
from opd_steps.graph.cost.sd3 import sd3_of
from opd_steps.graph.cost.work import Held, Read, Work
from opd_steps.graph.method import Method
from opd_steps.graph.options import Optim
from opd_steps.loop.learner import Learner
from opd_steps.loop.objective import Objective
from opd_steps.models.families.sd3 import SD3
from opd_steps.models.flow_policy import FlowPolicy
from opd_steps.models.numerics import Numerics, dtype_of
from opd_steps.models.word_vectors import WordVectors
from opd_steps.nouns.batch import Batch
from opd_steps.tune.lora import Lora
from tests.unit.flow_kept import ATTENTION, DEEP
from tests.unit.live_bytes import LiveBytes
from tests.unit.test_cost_memory import EXACT
from tests.unit.test_papers import ROOT, graph

WORDS, ROWS, AT_ONCE = 8, 4, 2
LARGE = {"sample_size": 128, "patch_size": 16, "in_channels": 16, "out_channels": 16, "num_layers": 1, "attention_head_dim": 4}
LARGE |= {"num_attention_heads": 2, "joint_attention_dim": 8, "caption_projection_dim": 8, "pooled_projection_dim": 8}
LARGE |= {"pos_embed_max_size": 8}  # images, and hardly a model


def tune(rank: int) -> dict:
    return {"name": "lora", "r": rank, "targets": ATTENTION} if rank else {"name": "full"}


def estimate(config: dict, dtype: str, weights: str, recompute: bool, rank: int, guidance: float, steps: int) -> Drawing:
    flow = sd3_of(config).by(asdict(SD3(guidance=guidance, words=WORDS)), linked=False)
    options = {"dtype": dtype, "weights": weights, "recompute": recompute, "tune": tune(rank), "optim": {"eight_bit": False}}
    work = Work(("student",), (Held("teacher", dtype),), samples="student", drawn=ROWS, prompts=ROWS, at_once=ROWS)
    work = Work(**{**vars(work), "read": Read(AT_ONCE, ROWS)})
    options |= {"resources": {"gpu": 0, "gpu_mem_gb": 80}}
    return Drawing(options, work, dict.fromkeys(("student", "teacher"), flow), Length(WORDS, steps, WORDS))


def most(config: dict, dtype: str, weights: str, recompute: bool, rank: int, guidance: float, steps: int) -> tuple[int, int]:
    """Bytes of tensors that are alive at once in the second step of a training: while images are drawn, and while they are learned from."""
    make = lambda dtype: SD3Transformer2DModel(**config).to(dtype_of(dtype)).eval()
    encoder = WordVectors(WORDS, 0, config["joint_attention_dim"], config["pooled_projection_dim"])
    around = FlowMatchEulerDiscreteScheduler(shift=3.0), encoder, SD3(guidance=guidance, words=WORDS)
    sampling = {"temperature": 1.0, "max_new_tokens": steps}
    with LiveBytes() as live:
        own, other = make(weights), make(dtype).requires_grad_(False)
        if rank:
            Lora(r=rank, targets=ATTENTION).adapt(own.requires_grad_(False), 0)
        if recompute:
            own.enable_gradient_checkpointing()
        student = FlowPolicy(own, *around, sampling, ROWS, numerics=Numerics(weights, dtype))
        teacher = FlowPolicy(other, *around, sampling, ROWS, numerics=Numerics(dtype, dtype))
        learner = Learner(student, Objective.from_method(merge(Method, EXACT, "test"), steps), {"teacher": teacher})
        learner.start("", {"steps": 3, "optim": asdict(Optim()), "micro_batch": AT_ONCE}, 0)
        for step in (1, 2):
            live.peak = live.now
            rows = student.rollout(["a red cat"] * ROWS, range(ROWS), range(ROWS), step - 1)
            drawn, live.peak = live.peak, live.now
            learner.update(step, Batch(rows), allows=lambda figures: True)
    return drawn, live.peak


@pytest.mark.parametrize(
    ("config", "dtype", "weights", "recompute", "rank", "guidance"),
    [
        (DEEP, "float32", "float32", False, 0, 1.0),
        (DEEP, "float32", "float32", True, 8, 4.5),
        (DEEP, "bfloat16", "float32", False, 0, 4.5),
        (DEEP, "bfloat16", "float32", True, 0, 1.0),
        (DEEP, "bfloat16", "float32", True, 8, 4.5),
        (DEEP, "bfloat16", "bfloat16", False, 8, 1.0),
        (DEEP, "bfloat16", "bfloat16", True, 8, 4.5),
        (LARGE, "float32", "float32", False, 0, 1.0),
        (LARGE, "bfloat16", "float32", True, 0, 4.5),
    ],
)
def test_live_tensors_of_a_training_step(config, dtype, weights, recompute, rank, guidance):
    case = config, dtype, weights, recompute, rank, guidance, 3
    drawn, learned = most(*case)
    needs = estimate(*case)
    assert sum((needs.held() + needs.sampling()["sampling"]).values()) - LIBRARIES == pytest.approx(drawn, rel=0.1)
    learning = max(sum(parts.values()) for parts in needs.reading().values())
    assert sum(needs.held().values()) + learning - LIBRARIES == pytest.approx(learned, rel=0.1)
    assert judged(needs).total - LIBRARIES == pytest.approx(max(drawn, learned), rel=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_vae_holds_so_much_of_a_pixel(dtype):
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    vae = AutoencoderKL(block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=16, **blocks)
    vae, side = vae.to(dtype).requires_grad_(False), 20
    latent = torch.randn(1, 16, side, side, dtype=dtype)
    with LiveBytes() as live, torch.no_grad():
        [p.view(-1) for p in vae.parameters()]
        live.peak, own = 0, live.now
        vae.decode(latent)
    assert PIXEL * (SIDE * side) ** 2 * dtype.itemsize == pytest.approx(live.peak - own, rel=0.1)


# ---- nodes


@pytest.fixture(scope="module")
def nodes():
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        papers = ["flow_opd", "diffusion_opd", "d_opsd"]
        return {f"{node.kind}/{node.name}": node for node in graph(papers=papers, scale="paper").nodes.values()}


def test_a_teacher_that_follows_is_held_in_fp32_and_whole(nodes):
    follows, stays = (fit(nodes[f"opd/{name}"]).parts for name in ("d_opsd", "frozen"))
    assert follows["teachers"] == 4 * 6_154_908_736 and "teachers" not in stays  # the student's adapter is set aside
    assert follows["weights"] == pytest.approx(2 * 6_154_908_736, rel=0.03)


def test_eyes_are_there_where_somebody_is_shown_an_image(nodes):
    found = {name: fit(node) for name, node in nodes.items()}
    seeing = {name for name, needed in found.items() if needed and needed.parts.get("eyes")}
    assert seeing == {"evaluate/seeing", *(f"opd/{name}" for name in ("d_opsd", "image_space", "copy", "fast", "frozen"))}
    assert all(needed.parts["encoders and VAE"] for needed in found.values() if needed)


def test_processes_share_weights_but_not_what_stands_around(nodes):
    found = fit(nodes["opd/flow_opd"]).parts
    encoders = sum(published()["stabilityai/stable-diffusion-3.5-medium"]["around"].values())
    assert found["encoders and VAE"] == 2 * encoders and found["judges"] == 4 * sum(JUDGES.values())
    assert found["teachers"] == 3 * 2 * (2_243_171_520 / 8 + 226_492_416)  # with its table of positions, which nobody cuts


def test_images_of_a_pass(nodes):
    many = {"opd/flow_opd": 10, "opd/tuned": 4, "sft/sft": 4, "evaluate/quick": 8, "evaluate/base": 40, "analyze/variance": 10}
    assert {name: decisions(nodes[name]) for name in many} == many
    assert fit(nodes["opd/tuned"]).total < fit(nodes["opd/from_base"]).total  # 4 points of a line, 10 steps
    assert 0 < fit(nodes["opd/d_opsd"]).total < 80 * GB and fit(nodes["opd/d_opsd"]).seconds > 60
