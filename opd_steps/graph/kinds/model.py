"""Weights to start from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Optional

from opd_steps.config.plugs import plug
from opd_steps.errors import UserError
from opd_steps.graph.checks.reads import refuse_unread
from opd_steps.graph.kinds._kind import Node
from opd_steps.graph.options import ref
from opd_steps.store.files import CHECKPOINT_FILES, PIPELINE_FILES
from opd_steps.store.sources import Given

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode

_OF_DATA = ("char", "bpe")  # tokenizers that are made of texts
_MADE_HERE = (*_OF_DATA, "byte")


@dataclass
class ModelNode(Node):
    """Weights to start from: `path` (HF id or folder), or a fresh model of a transformers config with a tokenizer."""

    PRODUCES: ClassVar[str] = "model"
    PHASE: ClassVar[str] = "teachers"
    PLACE: ClassVar[int] = 10
    CHECKED: ClassVar[bool] = False  # the preflight reads it
    CODE: ClassVar[dict[tuple[str, str], tuple[str, ...]]] = {
        ("family", name): ("models/made.py",) for name in ("causal_lm", "masked_lm", "text_critic")
    }

    family: Any = plug("models/families", "causal_lm")  # what kind of model it is
    path: Optional[str] = None
    revision: Optional[str] = None
    architecture: str = "qwen3"  # transformers model type of a fresh model
    config: dict[str, Any] = field(default_factory=dict)  # its config's fields
    tokenizer: str = (
        "char"  # "char" (a token a character of `data`), "bpe" (learned from `data`), "byte", or an HF id or folder
    )
    speaks: Optional[str] = ref(
        "model", required=False
    )  # with path: the model whose tokenizer, chat template and end tokens it takes in place of its own
    data: Optional[str] = ref("data", required=False)

    @classmethod
    def check(cls, node: GraphNode, where: str) -> None:
        reads, options = refuse_unread(node, "family", where), node.options
        if {"path", "config"} <= {*reads} and bool(options["path"]) == bool(options["config"]):
            raise UserError(where, "a model node takes either path (a checkpoint) or config (a fresh model)")
        if "tokenizer" in reads and options["config"] and options["tokenizer"] in _OF_DATA and "data" not in node.parents:
            raise UserError(f"{where}.data", "the char and bpe tokenizers take their alphabet from a data node; name it here")

    @classmethod
    def sources(cls, options: dict) -> dict[str, Given]:
        paths = {key: options[key] for key in ("path", "tokenizer")} | {"family.path": options["family"].get("path")}
        return {
            key: Given(path, CHECKPOINT_FILES + PIPELINE_FILES)
            for key, path in paths.items()
            if path is not None and path not in _MADE_HERE
        }
