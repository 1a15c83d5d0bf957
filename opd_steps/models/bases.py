"""What a model stands on that is an adapter: another node's model, named by its place in results/ and by its weights.

A folder with such a model holds adapter/ and base.json. Bases are shared, never copied; one may be an adapter itself.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from opd_steps.errors import UserError
from opd_steps.store.artifacts import MANIFEST, damage, read_manifest
from opd_steps.store.files import write_json
from opd_steps.store.fingerprint import digest

ADAPTER, WEIGHTS, BASE = "adapter", "adapter_model.safetensors", "base.json"
OF_PEFT = "base_model.model."  # in front of each weight's name, as a PeftModel has it


@dataclass(frozen=True)
class Base:
    """path     of the node, below results/
    part     of it, "" for its main model
    weights  digest (weights_digest)
    """

    path: str
    part: str
    weights: str

    def write(self, folder: Path) -> None:
        write_json(folder / BASE, asdict(self))


@dataclass(frozen=True)
class Tuning:
    """A training of an adapter: `plug` of `tune` puts it into the model, a function of `seed`; it stands on `base`."""

    plug: Any
    seed: int
    base: Base


def weights_digest(manifest: dict, part: str = "") -> str:
    """Digest of the weight files of the model that a node, or the part of it, holds, wherever they lie; of an adapter, with its base."""
    weights, place = manifest["facts"].get("weights"), f"parts/{part}/" if part else ""
    if not weights:
        mine = [name for name in manifest["files"] if name.startswith(place or "parts/") == bool(part)]
        weights = {n.removeprefix(place): manifest["files"][n] for n in mine if n.endswith((".safetensors", BASE))}
    return digest({name: entry["sha256"] for name, entry in weights.items()} or manifest["facts"])


def base_of(folder: Path) -> Path | None:
    """The folder of what the model in `folder` stands on; None for a whole model.

    Raises UserError where that is gone, damaged, or no longer the model that the adapter was trained on.
    """
    try:
        base = Base(**json.loads((folder / BASE).read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(str(folder / BASE), f"not the base of an adapter: {error}") from None
    results = (above for above in folder.absolute().parents if (above / base.path / MANIFEST).is_file())
    if (root := next(results, None)) is None:
        raise UserError(str(folder / BASE), f"its base {base.path} is in no folder above; make it, or keep results together")
    node = root / base.path
    manifest = read_manifest(node)
    if broken := damage(node, manifest):
        raise UserError(broken, "run the workflow again, it makes this result anew")
    if weights_digest(manifest, base.part) != base.weights:
        raise UserError(str(node), f"changed since {folder} was trained on it; run the workflow again")
    return node / (Path("parts", base.part) if base.part else "")


def stacked(folder: Path) -> list[Path]:
    """Folders of the adapters of a model, that on the whole model first; none for a whole model."""
    base = base_of(folder)
    return [] if base is None else [*stacked(base), folder / ADAPTER]
