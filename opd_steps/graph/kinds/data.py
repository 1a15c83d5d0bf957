"""A data set."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Optional

from opd_steps.config import plug_schema, plugs
from opd_steps.config.plugs import plug
from opd_steps.errors import UserError
from opd_steps.graph.checks.reads import refuse_unread
from opd_steps.graph.kinds._kind import Node
from opd_steps.store.sources import Given

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode


_SOURCES = "tasks/sources"


@dataclass
class DataNode(Node):
    """Prompts with verifiable answers, in train / test / ood splits."""

    PRODUCES: ClassVar[str] = "data"
    PLACE: ClassVar[int] = 0
    LOCAL: ClassVar[bool] = True  # on a cluster the head node has the network, and the work is small
    CHECKED: ClassVar[bool] = False

    task: Any = plug("tasks/worlds", "prompts")  # what is asked, and of whom; it says which of the other options it reads
    source: Any = plug(_SOURCES, "arithmetic")
    verifier: Any = plug("tasks/verifiers", "numeric")
    drop_unreadable: bool = False  # leave out rows whose answer the verifier cannot read, instead of refusing the data
    hints: Any = plug("tasks/hints", "none")  # how attempts are shown in front of a prompt, where a context is privileged
    chat: bool = False  # render prompts through the tokenizer's chat template
    system: Optional[str] = None  # system message, with chat
    template: dict[str, Any] = field(
        default_factory=dict
    )  # with chat: what the template is told, e.g. {enable_thinking: false}
    bos: Literal["auto", "always", "never"] = (
        "auto"  # in front of prompts; auto: the tokenizer's own rule, or the chat template's
    )

    @classmethod
    def check(cls, node: GraphNode, where: str) -> None:
        options = node.options
        if "source" not in refuse_unread(node, "task", where):
            return
        if options["system"] is not None and not options["chat"]:
            raise UserError(f"{where}.system", "a system message is shown only with chat: true")
        if options["template"] and not options["chat"]:
            raise UserError(f"{where}.template", "a template is told something only with chat: true")
        hinted = [plugs.constant(_SOURCES, source["name"], "HINTS") for source in plugs.chain(options["source"])]
        if any(hinted[1:]):
            raise UserError(
                f"{where}.source", "attempts are shown of whole solutions: the source that shows them is the outermost"
            )
        sources = plug_schema.inside(_SOURCES, options["source"])
        shows = [s["name"] for _, group, s in sources if group == _SOURCES and plugs.constant(group, s["name"], "HINTS")]
        for way, group, source in plug_schema.inside(_SOURCES, options["source"]):
            if way and group == _SOURCES and source.get("stream"):
                said = "rows that stream can be gone through once, and a source around them asks for more: 0, or take it alone"
                raise UserError(f"{where}.source{way}.stream", said)
        if shows and options["hints"]["name"] == "none":
            raise UserError(f"{where}.hints", f"source '{shows[0]}' shows attempts; say how: marks or words")

    @classmethod
    def sources(cls, options: dict) -> dict[str, Given]:
        inside = plug_schema.inside(_SOURCES, options["source"])
        found = {f"source{way}.path": source.get("path") for way, group, source in inside if group == _SOURCES}
        found["task.path"] = options["task"].get("path")
        return {key: Given(path) for key, path in found.items() if path is not None}
