"""Which source a node's job runs: its step, the plugs that its options name, and what no import tells."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from opd_steps.config import plug_schema, plugs
from opd_steps.config.merge import held
from opd_steps.config.versions import versions
from opd_steps.store.fingerprint import PACKAGE

Plug = tuple[str, str]  # group, name
WORLDS = "tasks/worlds"  # a plug of a data node: whoever reads the data runs it
FAMILIES = "models/families"  # a plug of the node that a model started from: whoever reads the model runs it


def files(kind: str, says: type, options: dict, read: set[Plug]) -> list[Path]:
    """The step and the plug files of a node. `says`: the class of its kind; `read`: plugs that other nodes name and it runs."""
    named = {plug for version in versions(options) for plug in used_plugs(says, version)} | {*says.FIXED} | read
    late = [
        PACKAGE / path
        for group, name in sorted(named)
        if group == WORLDS
        for path in plugs.constant(group, name, "CODE" if (group, name) in read else "WRITTEN_BY")
    ]
    plugged = [plugs.plug_path(*plug) for plug in sorted(named)]
    return [PACKAGE / "steps" / f"{kind}.py", *plugged, *_chosen(says, options), *late]


def used_plugs(cls: type, options: dict) -> list[Plug]:
    """(group, name) of every plug in checked options."""
    found = []
    for here, values in _parts(cls, options):
        for f in dataclasses.fields(here):
            for _, item in plugs.items(f, values.get(f.name)) if "plug" in f.metadata else ():
                group = f.metadata["plug"]
                found += [(group, item["name"]), *used_plugs(plug_schema.schema(group, item["name"]), item)]
    return found


def _chosen(cls: type, options: dict) -> list[Path]:
    """Files that the values of options choose: CODE of the kind, and of what its options hold."""
    found = []
    for here, values in _parts(cls, options):
        for (key, value), paths in getattr(here, "CODE", {}).items():
            named = values[key]["name"] if isinstance(values[key], dict) else values[key]
            found += [PACKAGE / path for path in paths if named == value]
    return found


def _parts(cls: type, options: dict) -> Iterator[tuple[type, dict]]:
    """(dataclass, its values) of checked options, and of all that they hold."""
    yield cls, options
    for f in dataclasses.fields(cls):
        for _, inner, item in held(cls, f, options.get(f.name)):
            yield from _parts(inner, item)
