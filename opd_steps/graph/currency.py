"""Whether a published result is that of its node as it is now. The manifest says what it was made of; nothing else is asked.

Not seen: files of a result, or sources above sources.SMALL, that were changed without a change of size by somebody who also set the
clock of the machine back; and files of a hub id (a step that loads them compares them with what the model node recorded).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from opd_steps.store.artifacts import MANIFEST, content, damage, is_whole
from opd_steps.store.fingerprint import canonical
from opd_steps.store.sources import Given, hashes

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode

SHOWN = 3  # differences


@dataclass
class Currency:
    """Results below `results`, judged one after the other, parents before children."""

    results: Path
    stale: dict[str, str] = field(default_factory=dict)  # path of a result below results/ -> why it is not that of its node
    changed: dict[str, list[str]] = field(default_factory=dict)  # cause -> "kind/name" of the nodes that it concerns
    contents: dict[str, str | None] = field(default_factory=dict)  # path -> its content, None where it is missing or stale

    def judge(self, node: GraphNode, seed: int) -> None:
        path, seed = node.path(seed), node.seed(seed)  # a pinned node has its own
        self.contents[path] = None
        folder = self.results / path
        try:
            manifest, since_ns = json.loads((folder / MANIFEST).read_text()), (folder / MANIFEST).stat().st_ctime_ns
        except FileNotFoundError:
            return
        except (OSError, ValueError):
            manifest = None
        if not is_whole(manifest):
            why = [f"{folder / MANIFEST} is damaged"]
        else:
            why = self._causes(node, seed, folder, manifest, since_ns)
        if not why:
            self.contents[path] = content(manifest)
            return
        self.stale[path] = "; ".join(why[:SHOWN]) + (f" and {len(why) - SHOWN} more" if len(why) > SHOWN else "")
        for cause in why:
            self.changed.setdefault(cause, []).append(f"{node.kind}/{node.name}")

    def _causes(self, node: GraphNode, seed: int, folder: Path, manifest: dict, since_ns: int) -> list[str]:
        why = []
        if (now := node.job_config(seed)) != canonical(manifest["config"]):
            why += differences(manifest["config"], json.loads(now))
        if node.code != manifest["code"]:
            files = sorted(manifest["code"].keys() | node.code.keys())
            why += [f"{file} changed" for file in files if manifest["code"].get(file) != node.code.get(file)]
        named = node.says.sources(node.options)
        try:
            now = hashes(named, manifest["sources"], since_ns)
        except OSError as error:
            return [*why, f"{error.filename} cannot be read"]
        why += _other_sources(manifest["sources"], now, named)
        for role, parent in node.parents.items():
            now = self.contents.get(parent.path(seed))
            if now is not None and manifest["parents"].get(role, {}).get("content") not in (None, now):
                why.append(f"it was made from another {role} than {parent.path(seed)}")
        return why or list(filter(None, [damage(folder, manifest)]))


def differences(old: object, new: object, at: str = "") -> list[str]:
    """Each value in which two trees of JSON differ: "options.optim.lr was 0.001, is 0.002"."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [d for k in keys for d in differences(old.get(k), new.get(k), f"{at}.{k}" if at else k)]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [d for i, (a, b) in enumerate(zip(old, new, strict=True)) for d in differences(a, b, f"{at}[{i}]")]
    if canonical(old) == canonical(new):
        return []
    return [f"{at.removeprefix('options.')} was {_short(old)}, is {_short(new)}"]


def _other_sources(old: dict, new: dict, named: dict[str, Given]) -> list[str]:
    """Each of the user's files that is not what it was."""
    found = []
    for key in sorted(old.keys() | new.keys()):
        was, now = old.get(key, {}), new.get(key, {})
        for name in sorted(was.keys() | now.keys()):
            if was.get(name) != now.get(name):
                what = "changed" if name in was and name in now else "is new" if name in now else "is gone"
                found.append(f"{Path(named[key].path if key in named else key, name)} {what}")
    return found


def _short(value: object) -> str:
    text = "not there" if value is None else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
