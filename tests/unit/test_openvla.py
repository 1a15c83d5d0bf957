"""OpenVLA: towers against transformers' own, what sees what, motions by hand, and checkpoints that are not ours."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, Dinov2WithRegistersConfig, Dinov2WithRegistersModel, SiglipVisionModel
from transformers import SiglipVisionConfig as SiglipConfig

from opd_steps.errors import UserError
from opd_steps.models.families.openvla import OpenVLA
from opd_steps.models.numerics import Numerics
from opd_steps.models.openvla import OpenVLAConfig, OpenVLAForActionPrediction, OpenVLATower
from opd_steps.models.openvla_policy import OpenVLAPolicy
from opd_steps.models.tokenizers import byte_tokenizer
from tests.unit.openvla_toys import MOTIONS, TEXT, TINY, TOWERS, write_openvla

SAMPLING = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 28}
FAMILY = OpenVLA(bins=8, chunk=2, statistics="moves")
ONE_BY_ONE = OpenVLA(bins=8, chunk=1, parallel=False, statistics="moves")
PUBLISHED = 7_541_237_184  # parameters, by the authors' own count of theirs with an adapter, less the adapter
UNREAD = {"width": 1024, "inner": 4096, "scaled": True}, {"width": 1152, "inner": 4304, "scaled": False}


def link(path, place, family=FAMILY):
    place.mkdir()
    options = {"path": str(path), "revision": None, "config": {}}
    return family.make(SimpleNamespace(stage=place, seed=0, options=options, sources={}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    base = tmp_path_factory.mktemp("openvla")
    facts = link(write_openvla(base / "theirs"), base / "node")
    assert facts["vocab_size"] == 8 and facts["weights"]
    return base / "node"


def policy(folder, family=FAMILY, **sampling):
    return family.policy(folder, sampling=SAMPLING | sampling)


def contexts(n=3):
    images = torch.randint(0, 256, (n, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return [{"prompt": ("Go LEFT", "put it on the plate", "go")[i % 3], "image": image} for i, image in enumerate(images)]


def of_block(width: int, inner: int, scaled: bool) -> int:
    return 4 * width**2 + 2 * width * inner + (9 + 2 * scaled) * width + inner


def test_the_whole_model_has_the_published_number_of_parameters():
    with torch.device("meta"):
        model = OpenVLAForActionPrediction(OpenVLAConfig(text_config={"vocab_size": 32064}))
    blocks, norms = sum(of_block(**shape) for shape in UNREAD), 2 * 1024 + 2 * 1152
    width, inner = 1152, 4304  # SigLIP's pooling: a question, attention, norm and MLP
    pool = width + 4 * width**2 + 4 * width + 2 * width + 2 * width * inner + width + inner
    assert sum(p.numel() for p in model.parameters()) + blocks + norms + pool == PUBLISHED


def split(name: str, weights: dict, theirs: str, keys: tuple[str, str, str]) -> dict:
    """A fused projection as three."""
    return {
        f"{theirs}.{key}.{kind}": part
        for kind in ("weight", "bias")
        for key, part in zip(keys, weights[f"{name}.{kind}"].chunk(3), strict=True)
    }


def renamed(weights: dict, block: str, theirs: str, names: dict[str, str]) -> dict:
    return {
        f"{theirs}.{new}.{kind}": weights[f"{block}.{old}.{kind}"] for old, new in names.items() for kind in ("weight", "bias")
    }


def test_towers_see_what_those_of_transformers_see():
    torch.manual_seed(0)
    image = torch.randn(2, 3, 8, 8)
    dino, siglip = (OpenVLATower(8, **shape).eval() for shape in TOWERS)
    for p in (*dino.parameters(), *siglip.parameters()):
        p.data.normal_(0, 0.3)
    shape = TOWERS[0]
    config = Dinov2WithRegistersConfig(
        hidden_size=shape["width"], num_hidden_layers=shape["depth"], num_attention_heads=shape["heads"], image_size=8, patch_size=4,
        mlp_ratio=shape["inner"] // shape["width"], num_register_tokens=shape["registers"], layer_norm_eps=1e-6,
    )  # fmt: skip
    theirs, w = Dinov2WithRegistersModel(config).eval(), dino.state_dict()
    known = {"embeddings.cls_token": w["cls_token"], "embeddings.register_tokens": w["reg_token"]}
    known["embeddings.position_embeddings"] = torch.cat([torch.zeros(1, 1, shape["width"]), w["pos_embed"]], 1)
    known |= renamed(w, "patch_embed", "embeddings.patch_embeddings", {"proj": "projection"})
    for i in range(shape["depth"] - 1):
        block, layer = f"blocks.{i}", f"encoder.layer.{i}"
        known |= split(f"{block}.attn.qkv", w, f"{layer}.attention", ("q_proj", "k_proj", "v_proj"))
        names = {
            "norm1": "norm1",
            "norm2": "norm2",
            "attn.proj": "attention.o_proj",
            "mlp.fc1": "mlp.fc1",
            "mlp.fc2": "mlp.fc2",
        }
        known |= renamed(w, block, layer, names)
        known |= {f"{layer}.layer_scale{k}.lambda1": w[f"{block}.ls{k}.scale_factor"] for k in (1, 2)}
    assert not theirs.load_state_dict(known, strict=False).unexpected_keys
    seen = theirs(image, output_hidden_states=True).hidden_states[-2][:, 1 + shape["registers"] :]
    torch.testing.assert_close(dino(image), seen, rtol=1e-4, atol=1e-5)

    shape = TOWERS[1]
    config = SiglipConfig(
        hidden_size=shape["width"], num_hidden_layers=shape["depth"], num_attention_heads=shape["heads"], image_size=8, patch_size=4,
        intermediate_size=shape["inner"], hidden_act="gelu", vision_use_head=False,
    )  # fmt: skip
    theirs, w = SiglipVisionModel(config).eval(), siglip.state_dict()
    root = "vision_model." if any(name.startswith("vision_model.") for name in theirs.state_dict()) else ""
    known = {f"{root}embeddings.position_embedding.weight": w["pos_embed"][0]}
    known |= renamed(w, "patch_embed", f"{root}embeddings", {"proj": "patch_embedding"})
    for i in range(shape["depth"] - 1):
        block, layer = f"blocks.{i}", f"{root}encoder.layers.{i}"
        known |= split(f"{block}.attn.qkv", w, f"{layer}.self_attn", ("q_proj", "k_proj", "v_proj"))
        names = {
            "norm1": "layer_norm1",
            "norm2": "layer_norm2",
            "attn.proj": "self_attn.out_proj",
            "mlp.fc1": "mlp.fc1",
            "mlp.fc2": "mlp.fc2",
        }
        known |= renamed(w, block, layer, names)
    assert not theirs.load_state_dict(known, strict=False).unexpected_keys
    seen = theirs(image, output_hidden_states=True).hidden_states[-2]
    torch.testing.assert_close(siglip(image), seen, rtol=1e-4, atol=1e-5)


def test_rows_hold_how_likely_their_actions_were_whoever_stands_beside_them(folder):
    for family in (FAMILY, ONE_BY_ONE):
        robot = policy(folder, family)
        rows = robot.rollout(contexts(), range(3), [5, 6, 7])
        assert {len(row) for row in rows.actions} == {family.tokens} and rows.action_N.max() < 8
        torch.testing.assert_close(rows.logp_N, robot.dist(rows).logp(rows.action_N).detach(), rtol=1e-4, atol=1e-4)
        alone = robot.rollout(contexts()[1:2], [1], [6])
        assert alone.actions[0].equal(rows.actions[1])
        torch.testing.assert_close(alone.logp[0], rows.logp[1], rtol=1e-4, atol=1e-5)


def test_tokens_of_all_at_once_do_not_hear_each_other_and_those_in_turn_do(folder):
    for family, hears in ((FAMILY, False), (ONE_BY_ONE, True)):
        robot = policy(folder, family)
        rows = robot.rollout(contexts(1), [0], [5])
        other = rows.actions[0].clone()
        other[2] = (other[2] + 1) % 8
        before, after = (robot.dist(r).logp_NV.detach() for r in (rows, rows.with_columns(actions=[other])))
        moved = ((before - after).abs().amax(-1) > 1e-6).tolist()
        assert moved == [hears and i > 2 for i in range(family.tokens)]


def test_asked_for_all_at_once_each_token_sees_all_that_is_there_but_padding():
    torch.manual_seed(0)
    model = OpenVLAForActionPrediction(OpenVLAConfig(**TINY | {"text_config": TINY["text_config"] | {"vocab_size": 40}})).eval()
    ids, pixels, there = torch.arange(3, 9)[None], torch.randn(1, 6, 8, 8), torch.arange(6)[None] < 5
    moved = lambda at, **how: (
        (read(ids.index_fill(1, torch.tensor([at]), 30), **how) - read(ids, **how)).abs().amax(-1)[0] > 1e-6
    )
    read = lambda ids, **how: model(ids, pixels, **how).last_hidden_state.detach()
    assert moved(4, there=there).tolist() == [True] * 6  # a padding token reads, too, and is read by nobody
    assert moved(5, there=there).tolist() == [False] * 5 + [True]
    assert moved(4).tolist() == [False] * 4 + [True] * 2
    assert not moved(3, silent=torch.arange(6)[None] == 3).any()
    other = model(ids, pixels + 1).last_hidden_state.detach() - read(ids)
    assert (other.abs().amax(-1)[0] > 1e-6).tolist() == [False] + [True] * 5  # patches stand behind the first token


def test_motions_are_quantiles_of_those_that_were_shown(folder):
    robot = policy(folder)
    action = torch.tensor([7, 6, 0, 1, 7, 7, 0, 4, 4, 4, 4, 4, 4, 7])
    found = robot.motions(action)
    width = 2 / 7  # seven spaces between eight edges; bins count down from the last token, whose space the one before has not
    centre = lambda b: -1 + width * (min(7 - b, 6) + 0.5)
    scaled = lambda b, low, high: (centre(b) + 1) / 2 * (high - low) + low
    expected = [
        [
            scaled(7, -1, 1),
            scaled(6, -0.5, 0.25),
            scaled(0, -0.5, 0.25),
            scaled(1, -0.5, 0.25),
            *[scaled(7, -0.5, 0.25)] * 2,
            -1,
        ]
    ]
    expected += [[scaled(4, -1, 1), *[scaled(4, -0.5, 0.25)] * 5, 1]]
    np.testing.assert_allclose(found, expected)
    assert centre(0) == centre(1) and centre(0) > 0.5  # 2 g - 1 > 0: open
    both = OpenVLA(bins=256, chunk=1)
    fresh = SimpleNamespace(family=both, model=SimpleNamespace(config=SimpleNamespace(norm_stats=None)), seen_as={})
    fresh.range = OpenVLAPolicy.range.func(fresh)
    most = OpenVLAPolicy.motions(fresh, torch.tensor([0, 255, 1, 127, 128, 129, 255]))
    np.testing.assert_allclose(most[0, :3], [254 / 255, -254 / 255, 254 / 255])
    np.testing.assert_allclose(most[0, 3:6], [2 / 255, 0, -2 / 255], atol=1e-12)


def test_the_files_of_a_checkpoint_say_how_it_sees_and_go_with_it(folder, tmp_path):
    robot = policy(folder)
    white = robot.pixels(torch.full((1, 3, 8, 8), 255, dtype=torch.uint8))[0, :, 0, 0]
    torch.testing.assert_close(white, torch.tensor([1.8, 3.2, 3.5, 1.0, 1.0, 1.0]))
    assert robot.first == len(byte_tokenizer()) and robot._text("Go LEFT") == byte_tokenizer().encode(
        "In: What action should the robot take to go left?\nOut: ", add_special_tokens=False
    )
    rows = robot.rollout(contexts(), range(3), range(3))
    FAMILY.save(robot, tmp_path / "a")
    again = policy(tmp_path / "a")
    assert again.dist(rows).logp_NV.equal(robot.dist(rows).logp_NV) and again.range[0].tolist() == MOTIONS["q01"]
    FAMILY.save(again, tmp_path / "b")
    files = lambda place: {str(p.relative_to(place)): p.read_bytes() for p in place.rglob("*") if p.is_file()}
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert isinstance(AutoModelForImageTextToText.from_pretrained(tmp_path / "a/model"), OpenVLAForActionPrediction)
    FAMILY.require_same(robot, again, "there", "teacher")


def test_what_is_refused(folder, tmp_path):
    other = OpenVLA(bins=8, chunk=2, statistics="others")
    with pytest.raises(UserError, match="there: the teacher moves otherwise than the student"):
        FAMILY.require_same(policy(folder), policy(folder, other), "there", "teacher")
    for family, said in (
        (OpenVLA(bins=8, chunk=2), "family.statistics: expected one of moves, others, found None"),
        (OpenVLA(bins=8, chunk=2, statistics="fruit"), "expected one of moves, others, found fruit"),
        (OpenVLA(bins=8, chunk=2, dims=6, statistics="moves"), "motions of moves have 7 dimensions, found 6"),
    ):
        with pytest.raises(UserError, match=said):
            policy(folder, family).range  # noqa: B018
    with pytest.raises(UserError, match="this checkpoint has 8, found 256"):
        link(folder.parent / "theirs", tmp_path / "bins", OpenVLA())
    with pytest.raises(UserError, match="an action is 14 tokens, found a budget of 13"):
        _ = policy(folder, max_new_tokens=13).horizon
    make = lambda config: FAMILY.make(SimpleNamespace(stage=tmp_path / "x", seed=0, options={"path": None, "config": config}))
    with pytest.raises(UserError, match=r"config.vocab_size: it follows from the family's bins"):
        make({"text_config": {"vocab_size": 9}})
    with pytest.raises(UserError, match="no model of OpenVLA's form: expected the towers"):
        make({"timm_model_ids": ["vit_large_patch14_reg4_dinov2.lvd142m", "clip"]})


def test_a_row_of_real_shape_goes_through_one_layer_of_each_part():
    """Widths, patches and vocabulary of the published policies: 256 patches, 56 tokens of 256 bins for one look."""
    towers = [shape | {"depth": 2} for shape in OpenVLAConfig().shapes]
    text = {"num_hidden_layers": 1, "vocab_size": 32064}
    model = OpenVLAForActionPrediction(OpenVLAConfig(towers=towers, text_config=text)).to(torch.bfloat16).eval()
    how = SAMPLING | {"max_new_tokens": 1680}
    robot = OpenVLAPolicy(model, byte_tokenizer(), OpenVLA(), how, numerics=Numerics("bfloat16", "bfloat16"))
    image = torch.randint(0, 256, (3, 256, 256), dtype=torch.uint8)
    rows = robot.rollout([{"prompt": "Pick up the bowl", "image": image}], [0], [0])
    assert robot.horizon == 30 and robot.first == 31744 and len(rows.actions[0]) == 56 and robot.model.patches == 256
    torch.testing.assert_close(rows.logp_N, robot.dist(rows).logp(rows.action_N).detach(), rtol=1e-2, atol=1e-2)
    assert robot.motions(rows.actions[0]).shape == (8, 7) and TEXT["hidden_size"] < model.config.text_config.hidden_size == 4096
