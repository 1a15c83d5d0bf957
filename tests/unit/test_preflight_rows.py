"""Preflight reads every row in every tokenizer that will, and compares the longest with what models and engines take."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from tokenizers import normalizers
from transformers import LlamaConfig, Qwen2Config

from opd_steps.config.load import load_root
from opd_steps.errors import UserError
from opd_steps.graph import agreement
from opd_steps.graph.agreement import rows
from opd_steps.graph.checked import checked
from opd_steps.graph.nodes import Graph
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.models.tokenizers import byte_tokenizer, char_tokenizer
from opd_steps.rollout.positions import positions
from opd_steps.tasks.audit import Audit
from opd_steps.tasks.room import check_rows
from tests.pipeline.stages import Stages, edit_json, save_checkpoint
from tests.unit.made_tokenizers import made
from tests.unit.tiny import FakeTokenizer, qwen
from tests.unit.tiny_results import char_tokenizer as with_unknown

NODES = {
    "data": {"kind": "data", "source": {"name": "jsonl", "path": "{path}", "solution": "solution", "test": 2}},
    "m": {"kind": "model", "path": "{m}"},
    "t": {"kind": "model", "path": "{t}"},
    "base": {"kind": "pretrain", "model": "m", "data": "data"},
    "warm": {"kind": "sft", "student": "m", "data": "data"},
    "strong": {"kind": "rl", "policy": "t", "data": "data", "sampling": {"max_new_tokens": 5}},
    "traces": {"kind": "rollout", "policy": "strong", "data": "data", "sampling": {"max_new_tokens": 9}},
    "cold": {"kind": "sft", "student": "m", "data": "traces"},
    "scored": {"kind": "score", "rollouts": "traces", "teacher": "t"},
    "opd": {"kind": "opd", "student": "cold", "teacher": "strong", "data": "data", "sampling": {"max_new_tokens": 20}},
    "offline": {"kind": "opd", "student": "cold", "scores": "scored", "data": "data"},
    "gkd": {
        "kind": "opd",
        "student": "cold",
        "teacher": "strong",
        "data": "data",
        "sampling": {"max_new_tokens": 3},
        "method": {"prefix": {"name": "mixture"}},
    },
    "look": {"kind": "analyze", "model": "opd", "teacher": "t", "data": "data", "analysis": "overlap", "max_new_tokens": 6},
}
EVALUATE = {"models": ["opd"], "options": {"data": "data", "splits": ["test"], "max_new_tokens": 7}}
PROMPTS = ["2+2=", "3+11=", "40+50=", "7+8+9="]


class Paper:
    """A paper of all kinds of nodes, whose data and models are made."""

    def __init__(self, tmp_path, edit=lambda nodes: None, lines=None, **checkpoints):
        file = tmp_path / "data.jsonl"
        lines = lines or [{"prompt": p, "answer": "4", "solution": "=" * i + "4"} for i, p in enumerate(PROMPTS)]
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        paths = {"path": str(file)}
        for name in ("m", "t"):
            paths[name] = str(save_checkpoint(tmp_path / name, vocab_size=300, **checkpoints.get(name, {})))
        nodes = json.loads(json.dumps(NODES))
        edit(nodes)
        for node in nodes.values():
            for part in (node, node.get("source", {})):
                if "path" in part:
                    part["path"] = part["path"].format(**paths)
        nodes["data"].setdefault("verifier", {"name": "exact", "after": "="})
        paper = tmp_path / "toy.yaml"
        paper.write_text(yaml.safe_dump({"paper": {"title": "Toy"}, "nodes": nodes, "evaluate": EVALUATE}, sort_keys=False))
        self.graph = checked(Graph.of(load_root({"papers": [str(paper)]})))
        self.stages = Stages(tmp_path / "results")

    def make(self):
        """The data and model nodes, where the graph says that they lie."""
        for (_, kind, name), node in self.graph.nodes.items():
            if kind in ("data", "model"):
                skip = {"kind", "seed", "resources"}
                self.stages.run(name, kind, **{k: v for k, v in node.options.items() if k not in skip and v is not None})
        (self.stages.results / "toy").symlink_to(self.stages.results / "p")
        return self

    def check(self):
        agreement.check(self.graph, "toy", 0, self.stages.results)
        return check_rows(self.stages.results, rows(self.graph, "toy", 0))


def set_(node: str, **options):
    return lambda nodes: nodes[node].update(options)


def test_what_the_nodes_ask_is_known_from_the_graph_alone(tmp_path):
    paper = Paper(tmp_path)
    found = {(r.node, r.split, r.column, r.answer): r for r in rows(paper.graph, "toy", 0)}
    m, t, data = (f"toy/{kind}/{name}/seed0" for kind, name in (("model", "m"), ("model", "t"), ("data", "data")))
    assert {key: (r.tokens, r.models) for key, r in found.items()} == {
        ("base", "train", "corpus", 0): (m, (m,)),
        ("warm", "train", "solution", 0): (m, (m,)),
        ("strong", "train", "", 5): (t, (t,)),
        ("traces", "train", "", 9): (t, (t,)),
        ("cold", "train", "", 9): (t, (m,)),
        ("scored", "train", "", 9): (t, (t,)),
        ("opd", "train", "", 20): (m, (m, t)),
        ("offline", "train", "", 9): (t, (m,)),
        ("gkd", "train", "", 3): (m, (m, t)),
        ("gkd", "train", "solution", 0): (m, (m, t)),
        ("opd", "test", "", 7): (m, (m,)),  # its evaluation
        ("look", "test", "", 6): (m, (m, t)),
    }
    assert all(r.data == data for r in found.values())
    assert set(agreement.models(paper.graph, "toy", 0)) == {m, t, data}


def test_rows_that_fit_are_measured(tmp_path):
    found, notes = Paper(tmp_path).make().check()
    by = {(entry["node"], entry["answer"]): entry for entry in found}
    assert notes == [] and len(found) == 12
    assert by["opd", 20]["longest"] in (5, 6) and by["opd", 20]["place"].endswith("train.jsonl:2")


@pytest.mark.parametrize(
    ("edit", "checkpoints", "says"),
    [
        (
            set_("opd", sampling={"max_new_tokens": 90}),
            {},
            "node opd: the longest prompt has N tokens (F), and an answer of up to 90",
        ),
        (
            None,
            {"t": {"max_position_embeddings": 14}},
            "node traces: the longest prompt has N tokens (F), and an answer of up to 9",
        ),
        (None, {"m": {"max_position_embeddings": 10}}, "toy/model/m/seed0 (max_position_embeddings) are 10"),
        (
            None,
            {"m": {"max_position_embeddings": 7}},
            "node base: the longest row has N tokens (F); the positions of toy/model/m",
        ),
        (set_("strong", engine={"name": "vllm", "max_model_len": 8}), {}, "makes 11; strong.engine.max_model_len is 8"),
        (
            set_("opd", teacher_engine={"name": "server", "max_model_len": 21}),
            {},
            "node opd: the longest prompt has N tokens (F), and an answer of up to 20 makes 26; opd.teacher_engine.max_model_len is 21",
        ),
        (
            set_("opd", controllers=[{"name": "linear", "sets": "sampling.max_new_tokens", "first": 4, "last": 70}]),
            {},
            "node opd: the longest prompt has N tokens (F), and an answer of up to 70",
        ),
    ],
)
def test_what_does_not_fit_is_named_with_its_figures(tmp_path, edit, checkpoints, says):
    sizes = {"m": {"max_position_embeddings": 60}, "t": {"max_position_embeddings": 60}} | checkpoints
    paper = Paper(tmp_path, edit or (lambda nodes: None), **sizes).make()
    with pytest.raises(UserError) as caught:
        paper.check()
    text = str(caught.value).replace(str(tmp_path / "results"), "")
    pattern = re.escape(says).replace("N\\ tokens", r"\d+ tokens").replace(r"\(F\)", r"\([^)]*train\.jsonl:\d+\)")
    assert re.search(pattern, text), text


def test_a_split_that_a_node_asks_for_has_rows(tmp_path):
    paper = Paper(tmp_path, lambda nodes: nodes["traces"].update(split="ood")).make()
    with pytest.raises(UserError, match=r"node traces: .*data/data/seed0: the ood split has no rows"):
        paper.check()


def test_a_context_that_shows_solutions_is_measured(tmp_path):
    def edit(nodes):
        nodes["data"]["hints"] = "words"
        nodes["opd"] |= {"context": "demo", "sampling": {"max_new_tokens": 3}}

    paper = Paper(tmp_path, edit, t={"max_position_embeddings": 60}).make()
    with pytest.raises(
        UserError, match=r"node opd: the longest context has \d+ tokens .* answer of up to 3 .*model/t/seed0 .* are 60"
    ):
        paper.check()


def test_a_column_that_a_node_asks_for_is_there(tmp_path):
    paper = Paper(tmp_path, set_("warm", column="nothing")).make()
    with pytest.raises(UserError, match=r"node warm: .*no column 'nothing'; found"):
        paper.check()


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LlamaConfig(max_position_embeddings=100), 100),
        (
            Qwen2Config(max_position_embeddings=100, rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}),
            400,
        ),
        (
            Qwen2Config(
                max_position_embeddings=400,
                rope_parameters={
                    "rope_type": "yarn",
                    "factor": 4.0,
                    "rope_theta": 1e4,
                    "original_max_position_embeddings": 100,
                },
            ),
            400,
        ),
    ],
)
def test_positions(config, expected):
    assert positions(config) == expected


def test_a_policy_refuses_what_preflight_could_not_know():
    """A context that shows attempts, say: it is longer than the prompt."""
    policy = LMPolicy(qwen(), FakeTokenizer(24), max_new_tokens=28)  # 128 positions
    policy.rollout([[3] * 101], [0], [0])
    with pytest.raises(
        UserError, match="length: a row has to be read over 129 tokens, prompt and response; this model has 128"
    ):
        policy.rollout([[3] * 102], [0], [0])
    rows = policy.rollout([[3] * 101], [0], [0])
    with pytest.raises(UserError, match="this model has 128 positions"):
        policy.dist(rows.with_columns(contexts=[[3] * 200]))


# -- what a tokenizer makes of the data


def audit(tmp_path, lines: list[dict], tokenizer=None, spoil=lambda folder: None, config=None, **data) -> Audit:
    """The audit of some rows in a tokenizer."""
    stages, file = Stages(tmp_path / "results"), tmp_path / "data.jsonl"
    file.write_text("".join(json.dumps({"answer": "4", "prompt": "2+2=", **line}) + "\n" for line in lines))
    folder = save_checkpoint(tmp_path / "m", tokenizer=tokenizer, **(config or {}))
    spoil(folder)
    stages.run("m", "model", path=str(folder))
    judge = {"name": "exact"}
    stages.run("data", "data", source={"name": "jsonl", "path": str(file), "solution": "answer"}, verifier=judge, **data)
    return Audit(stages.results / "p/data/data/seed0", stages.results / "p/model/m/seed0")


def test_names_of_special_tokens_are_said_once(tmp_path):
    found = audit(tmp_path, [{"answer": "4 <eos>"}, {"prompt": "<|im_end|> <eos>"}, {}])
    assert found.longest("train", "solution")[1].endswith("train.jsonl:2")
    found.longest("train", "corpus")
    (note,) = found.notes
    assert note.endswith("train.jsonl holds names of special tokens (<eos>, <|im_end|>; 3 in all): they are read as text")


def test_an_end_token_inside_a_text_is_refused(tmp_path):
    """A line break that generation_config lists as an end: no split special token helps here."""
    newline = lambda folder: edit_json(
        folder / "generation_config.json", eos_token_id=[1, made("plain_bytes")("\n")["input_ids"][0]]
    )
    found = audit(tmp_path, [{}, {"answer": "2+2\n4"}], spoil=newline)
    assert found.longest("train")[0] == 4  # in a prompt it ends nothing
    with pytest.raises(UserError, match=r"train\.jsonl:2: the end token 'Ċ' of .* stands inside this text"):
        found.longest("train", "solution")


def test_a_character_that_the_tokenizer_lacks_is_named_by_line(tmp_path):
    found = audit(tmp_path, [{}, {"prompt": "2+3="}], tokenizer=char_tokenizer("2+=4"))
    with pytest.raises(UserError, match=r"train\.jsonl:2: tokenizer: the character '3' is not in its alphabet"):
        found.longest("train")


def test_a_prompt_of_no_tokens_is_named_by_line(tmp_path):
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("#", "")  # as some drop what they do not know
    found = audit(tmp_path, [{}, {"prompt": "##"}], tokenizer=tokenizer)
    with pytest.raises(UserError, match=r"train\.jsonl:2: prompt: no tokens at all in '##'"):
        found.longest("train")


def test_unknown_characters_are_said(tmp_path):
    found = audit(tmp_path, [{}, {"prompt": "2X2="}], tokenizer=with_unknown())
    found.longest("train")
    assert "train.jsonl: 1 rows hold characters that the tokenizer" in found.notes[0]


def test_a_template_that_refuses_the_data_is_refused_before_any_row(tmp_path):
    template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}{{ messages[-1]['content'] }}"
    )
    spoil = lambda folder: (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(UserError, match="chat: the chat template fails on messages of system, user: TemplateError: no system"):
        audit(tmp_path, [{}], spoil=spoil, chat=True, system="Be brief.")


def test_a_clock_is_pinned_and_said(tmp_path):
    template = "{{ strftime_now('%Y') }}{{ messages[-1]['content'] }}"
    found = audit(tmp_path, [{}], spoil=lambda folder: (folder / "chat_template.jinja").write_text(template), chat=True)
    assert found.longest("train")[0] == 8
    assert found.notes[0].endswith("asks for the date: it is told 26 July 2024, always")


def longer_tokenizer(**special):
    """Spoils a checkpoint: a special token behind the embedding's last row."""

    def spoil(folder):
        tokenizer = byte_tokenizer()
        tokenizer.add_special_tokens(special)
        tokenizer.save_pretrained(folder)

    return spoil


def test_tokens_beyond_the_embedding(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(UserError, match=r"the tokenizer has the token '.+' = 259, the embedding 110 rows \(vocab_size\)"):
        audit(tmp_path / "x", [{}], spoil=lambda folder: edit_json(folder / "config.json", vocab_size=110))
    for i, name in enumerate(("end", "padding")):
        (tmp_path / name).mkdir()
        with pytest.raises(
            UserError, match=f"the tokenizer's {name} token is 260; tokenizer and embedding have 260 tokens in common"
        ):
            audit(tmp_path / name, [{}], spoil=longer_tokenizer(**{("eos_token", "pad_token")[i]: "<late>"}))
    found = audit(tmp_path, [{}], spoil=longer_tokenizer(bos_token="<late>"))
    assert found.longest("train")[0] == 4  # an image token, say, that no text is read as
    (tmp_path / "y").mkdir()
    found = audit(tmp_path / "y", [{}], spoil=longer_tokenizer(bos_token="<late>"), bos="always")
    with pytest.raises(UserError, match=r"train\.jsonl:1: token 260, and the embedding of .* has 260 rows"):
        found.longest("train")
