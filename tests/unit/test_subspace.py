"""SPD (arXiv 2605.22675): projectors, what the calibration's gradients are, and the folded model held against hooks."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import GPT2Config, GPT2LMHeadModel, Qwen2Config, Qwen2ForCausalLM

from opd_steps.errors import UserError
from opd_steps.graph.kinds import project
from opd_steps.models.families.causal_lm import CausalLM
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.models.subspace import energy, fold, main_directions, projections, projector, random_directions
from opd_steps.models.tokenizers import char_tokenizer
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.steps.project import activation_gradients
from opd_steps.tasks.behind import behind
from tests.pipeline.stages import Stages
from tests.unit.opd_toys import SHAPE
from tests.unit.tiny import FakeTokenizer, qwen

CONTEXTS, ACTIONS = [[3], [4, 5, 6], [7, 8]], [[1, 9, 2], [2, 2], [3, 4, 5, 6, 1]]


def with_bias(seed: int = 0) -> Qwen2ForCausalLM:
    """Keys and values have a bias, and no norm."""
    torch.manual_seed(seed)
    size = {"vocab_size": 24, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.3}
    model = Qwen2ForCausalLM(Qwen2Config(**size, **heads))
    for layer in model.model.layers:
        torch.nn.init.normal_(layer.self_attn.k_proj.bias)
        torch.nn.init.normal_(layer.self_attn.v_proj.bias)
    return model


MODELS = {"qwen3": lambda: qwen(24, layers=3), "qwen2": with_bias}


@contextmanager
def hooked(linears: dict, bases: dict):
    """The method as the paper has it: K <- K P, V <- V P while the model runs."""
    onto = lambda p: lambda _, __, z: z @ p.to(z.dtype)
    made = [linears[n].register_forward_hook(onto(projector(basis))) for n, basis in bases.items()]
    try:
        yield
    finally:
        for hook in made:
            hook.remove()


def rows() -> Trajectory:
    return Trajectory(CONTEXTS, [torch.tensor(a) for a in ACTIONS], torch.arange(3))


shapes = st.tuples(st.integers(1, 9), st.integers(1, 7), st.integers(0, 10**6)).flatmap(
    lambda s: st.tuples(st.just(s[0]), st.just(s[1]), st.integers(1, s[1]), st.just(s[2]))
)


@given(shapes)
@settings(deadline=None)
def test_projectors_are_orthogonal_and_of_rank_r(shape):
    """Also where there are fewer positions than directions wanted."""
    count, width, rank, seed = shape
    gradient_ND = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    for basis_DR in (main_directions(gradient_ND, rank), random_directions(width, rank, seed)):
        p = projector(basis_DR)
        assert basis_DR.shape == (width, rank)
        torch.testing.assert_close(p @ p, p, atol=1e-12, rtol=0)
        torch.testing.assert_close(p, p.T, atol=1e-12, rtol=0)
        assert abs(float(p.trace()) - rank) < 1e-11 and int(torch.linalg.matrix_rank(p)) == rank
        if rank == width:
            torch.testing.assert_close(p, torch.eye(width, dtype=p.dtype), atol=1e-12, rtol=0)


@given(shapes)
@settings(deadline=None)
def test_no_subspace_of_that_rank_holds_more_of_the_gradients(shape):
    """The share is that of the r largest squared singular values, and a random subspace's is never above it."""
    count, width, rank, seed = shape
    gradient_ND = torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    squares = torch.linalg.eigvalsh(gradient_ND.T @ gradient_ND).flip(0)
    share = energy(gradient_ND, main_directions(gradient_ND, rank))
    assert share == pytest.approx(float(squares[:rank].sum() / squares.sum()), abs=1e-10)
    assert energy(gradient_ND, random_directions(width, rank, seed)) <= share + 1e-10


def test_the_control_is_a_function_of_the_seed_and_lies_evenly():
    assert torch.equal(random_directions(8, 3, 5, "0.k_proj"), random_directions(8, 3, 5, "0.k_proj"))
    assert not torch.equal(random_directions(8, 3, 5, "0.k_proj"), random_directions(8, 3, 5, "0.v_proj"))
    mean = torch.stack([projector(random_directions(8, 3, seed)) for seed in range(3000)]).mean(0)
    torch.testing.assert_close(mean, 3 / 8 * torch.eye(8, dtype=mean.dtype), atol=0.02, rtol=0)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("layers", [[], [0], [-1, 0]])
def test_folded_equals_hooked(name, layers):
    model, folded = MODELS[name]().double(), MODELS[name]().double()
    tokens = torch.randint(24, (3, 9), generator=torch.Generator().manual_seed(1))
    plain, linears = model(tokens).logits, projections(model, layers)
    bases = {n: random_directions(linear.out_features, 7, n) for n, linear in linears.items()}
    for n, linear in projections(folded, layers).items():
        fold(linear, bases[n])
    with hooked(linears, bases):
        meant = model(tokens).logits
    torch.testing.assert_close(folded(tokens).logits, meant, atol=1e-11, rtol=0)
    assert float((meant - plain).abs().max().detach()) > 0.1
    assert torch.equal(model(tokens).logits, plain)


def test_at_full_rank_nothing_changes():
    model, same = LMPolicy(with_bias(), FakeTokenizer(20)), LMPolicy(with_bias(), FakeTokenizer(20))
    for n, linear in projections(same.model, [0, 1, 2]).items():
        fold(linear, random_directions(linear.out_features, linear.out_features, n))
    said = [policy.rollout(CONTEXTS * 5, range(15), range(15)) for policy in (model, same)]
    assert all(torch.equal(a, b) for a, b in zip(said[0].actions, said[1].actions, strict=True))
    torch.testing.assert_close(said[0].logp_N, said[1].logp_N, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("micro_batch", [1, 2, 16])
def test_the_gradients_are_those_at_keys_and_values(name, micro_batch):
    """Of the summed loss over the span, row by row without padding, by ordinary autograd; every position is a row of G."""
    policy = LMPolicy(MODELS[name]().double().requires_grad_(False), FakeTokenizer(20))
    linears, span = (
        projections(policy.model, [0, -1]),
        torch.tensor([False, True, True, True, False, False, False, True, True, True]),
    )
    loss, found = activation_gradients(policy, rows(), span, linears, micro_batch)
    plain, total, start = {name: [] for name in linears}, 0.0, 0
    reference = MODELS[name]().double()
    for context, action in zip(CONTEXTS, ACTIONS, strict=True):
        kept = {}
        keep = lambda z, n, kept=kept: (z.retain_grad(), kept.update({n: z}))[0]
        own = projections(reference, [0, -1])
        hooks = [linear.register_forward_hook(lambda _, __, z, n=n, keep=keep: keep(z, n)) for n, linear in own.items()]
        logits = reference(torch.tensor([context + action[:-1]])).logits[0, len(context) - 1 :, :20]
        logp = torch.log_softmax(logits, -1).gather(-1, torch.tensor(action)[:, None])[:, 0]
        value = -(logp * span[start : start + len(action)]).sum()
        value.backward()
        start, total = start + len(action), total + float(value.detach())
        for n in own:
            plain[n].append(kept[n].grad[0])
        for hook in hooks:
            hook.remove()
    assert loss == pytest.approx(total, rel=1e-12)
    for n, parts in plain.items():
        meant, mine = torch.cat(parts), found[n]
        assert all(bool((part[0] != 0).any()) for part in parts[1:]), "prompts have gradients as well"
        torch.testing.assert_close(mine[mine.abs().sum(1) > 0], meant[meant.abs().sum(1) > 0].float(), atol=1e-6, rtol=1e-5)


def test_layers_are_named_from_either_end():
    model = qwen(layers=4)
    assert list(projections(model, [])) == ["2.k_proj", "2.v_proj", "3.k_proj", "3.v_proj"]
    assert list(projections(model, [-4])) == ["0.k_proj", "0.v_proj"]
    assert list(projections(qwen(layers=1), [])) == ["0.k_proj", "0.v_proj"]
    with pytest.raises(UserError, match="layers: this model has 4 layers: no layer 4"):
        projections(model, [4])
    fused = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=9, n_positions=9))
    with pytest.raises(UserError, match="model: it has no"):
        projections(fused, [0])


@pytest.mark.parametrize(
    ("mark", "span"), [("=", "0001" + "1"), ("+", "0111" + "1"), ("", "1111" + "1"), ("b=", "0001" + "1"), ("=c", "0000" + "1")]
)
def test_a_span_begins_behind_the_last_mark(mark, span):
    tokenizer = char_tokenizer("+=abc")
    ids = [*tokenizer("+b=c", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    row = Trajectory([[1]], [torch.tensor(ids)], torch.tensor([0]))
    assert "".join(str(int(x)) for x in behind(row, tokenizer, mark)) == span
    with pytest.raises(UserError, match="after: 'x' stands nowhere in"):
        behind(row, tokenizer, "x")


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    stages = Stages(tmp_path_factory.mktemp("toys"))
    stages.run(
        "data",
        "data",
        source={"name": "arithmetic", "train": 40, "test": 12, "ood": 4},
        verifier={"name": "exact", "after": "="},
    )
    config = SHAPE | {"tie_word_embeddings": True, "num_hidden_layers": 2}
    stages.run("small", "model", {"data": "data/data"}, config=config)
    project = lambda name, **options: stages.run(name, "project", {"model": "model/small", "data": "data/data"}, **options)
    policy = lambda node: CausalLM().policy(stages.results / f"p/{node}/seed0")
    return SimpleNamespace(stages=stages, project=project, policy=policy, folder=stages.results / "p/project")


def test_the_published_model_is_the_hooked_one(toys):
    made = toys.project("half", examples=9, after="=", layers=[0, -1], micro_batch=4)
    bases = load_file(toys.folder / "half/seed0/projectors.safetensors")
    assert {name: tuple(b.shape) for name, b in bases.items()} == {f"{i}.{kv}_proj": (8, 4) for i in (0, 1) for kv in "kv"}
    before, after = toys.policy("model/small"), toys.policy("project/half")
    tokens = torch.randint(len(before.tokenizer), (4, 11), generator=torch.Generator().manual_seed(0))
    with hooked(projections(before.model, [0, 1]), bases):
        meant = before.model(tokens).logits
    torch.testing.assert_close(after.model(tokens).logits, meant, atol=1e-4, rtol=0)
    assert 0 < made["metrics"]["project/energy"] <= 1 and made["metrics"]["project/loss"] > 0


def test_the_gradients_subspace_holds_more_than_a_random_one(toys):
    kept = {s: toys.project(s, examples=9, subspace=s)["metrics"] for s in ("gradient", "random")}
    assert kept["gradient"]["project/energy"] > kept["random"]["project/energy"]
    assert kept["gradient"]["project/loss"] == kept["random"]["project/loss"]


def test_others_read_it_as_a_model_and_train_on_what_it_says(toys):
    toys.project("read", examples=9)
    said = toys.stages.run(
        "said", "rollout", {"policy": "project/read", "data": "data/data"}, limit=9, sampling={"max_new_tokens": 8}
    )
    assert (
        said["facts"]["policy"]
        != toys.stages.run(
            "plain", "rollout", {"policy": "model/small", "data": "data/data"}, limit=9, sampling={"max_new_tokens": 8}
        )["facts"]["policy"]
    )
    train = {"student": "model/small", "data": "rollout/said"}
    for loss_on in ("response", "all"):
        assert toys.stages.run(loss_on, "sft", train, steps=2, batch=4, loss_on=loss_on)["metrics"]["train/loss"] > 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rank": 9}, "rank: expected at most 8"),
        ({"layers": [2]}, "layers: this model has 2"),
        ({"after": "?"}, "after: '\\?' stands"),
    ],
)
def test_what_does_not_fit_is_one_line(toys, options, said):
    with pytest.raises(UserError, match=said):
        toys.project("wrong", **options)


def test_examples_must_be_text(monkeypatch):
    node = SimpleNamespace(parents={"data": SimpleNamespace(options={"task": {"name": "prompts"}})})
    project.ProjectNode.check(node, "p")
    monkeypatch.setattr(project, "constant", lambda group, name, attribute: False)
    with pytest.raises(UserError, match=r"p\.data: expected solved examples in text"):
        project.ProjectNode.check(node, "p")
