"""Checkpoints that are not ours: a hub id or a folder, found, checked, and identified by the content of its files."""

from __future__ import annotations

import json
from pathlib import Path

import huggingface_hub
from safetensors import SafetensorError, safe_open

from opd_steps.errors import UserError
from opd_steps.store.files import CHECKPOINT_FILES
from opd_steps.store.fingerprint import file_entry
from opd_steps.store.sources import here

_TOKENIZER = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")


def locate(path: str, revision: str | None = None, cached: bool = False) -> Path:
    """The folder of a local path, or the snapshot of a hub id (downloaded unless `cached`). Raises UserError."""
    if folder := here(path):
        return folder.resolve()
    if path.startswith(("/", ".", "~")) or path.count("/") > 1:
        raise UserError(path, "no such model folder")
    options = {"revision": revision, "allow_patterns": list(CHECKPOINT_FILES), "local_files_only": cached}
    try:
        return Path(huggingface_hub.snapshot_download(path, **options))
    except (OSError, ValueError, huggingface_hub.errors.HfHubHTTPError) as error:
        raise UserError(path, f"no such folder, and not found on the hub: {str(error).splitlines()[0]}") from None


def followed(link: dict) -> Path:
    """Where a node's link leads, {path, revision}, without a download. Raises UserError."""
    return locate(link["path"], link["revision"], cached=True)


def commit(folder: Path) -> str | None:
    """Of a snapshot in the hub's cache; None of other folders."""
    return folder.name if folder.parent.name == "snapshots" else None


def has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _TOKENIZER)


def check(folder: Path) -> None:
    """Raises UserError unless `folder` holds config.json, whole safetensors weights and a tokenizer."""
    where = str(folder)
    if not folder.is_dir():
        raise UserError(where, "expected a checkpoint folder, found a file")
    gguf = sorted(p.name for p in folder.glob("*.gguf"))
    if gguf and not any(folder.glob("*.safetensors")):
        raise UserError(where, f"{gguf[0]} is a GGUF file, of quantised weights; expected plain weights in safetensors")
    try:
        config = json.loads((folder / "config.json").read_text())
        config["model_type"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(where, "not a checkpoint: no config.json with a model_type") from None
    if quantised := _quantised(folder, config):
        raise UserError(where, f"its weights are quantised ({quantised}); expected plain float32, float16 or bfloat16 weights")
    weights = {p.name for p in folder.glob("*.safetensors")}
    if not weights:
        pickles = sorted(p.name for end in ("bin", "pt", "pth", "ckpt") for p in folder.glob(f"*.{end}"))
        hint = f" ({pickles[0]} is a pickle, which is never loaded; convert it with save_pretrained)" if pickles else ""
        raise UserError(where, f"not a checkpoint: no *.safetensors{hint}")
    if lacking := _indexed(folder / "model.safetensors.index.json") - weights:
        raise UserError(where, f"the index names {min(lacking)}, which is missing")
    for name in sorted(weights):
        try:
            with safe_open(folder / name, "pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise UserError(str(folder / name), f"not a safetensors file: {error}") from None
    if not has_tokenizer(folder):
        raise UserError(where, "this checkpoint has no tokenizer files")


def _quantised(folder: Path, config: dict) -> str:
    """Who quantised the weights, "" where nobody did."""
    for part in (config, config.get("text_config")):
        if isinstance(part, dict) and (how := part.get("quantization_config") or part.get("compression_config")):
            return str(how.get("quant_method") or "unknown method") if isinstance(how, dict) else str(how)
    files = [name for name in ("quantize_config.json", "quant_config.json", "hf_quant_config.json") if (folder / name).exists()]
    return files[0] if files else ""


def _indexed(index: Path) -> set[str]:
    """The weight files that a sharded checkpoint's index names; none without an index."""
    try:
        return set(json.loads(index.read_text())["weight_map"].values())
    except FileNotFoundError:
        return set()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(str(index), "not the index of a checkpoint: no weight_map") from None


def file_hashes(folder: Path) -> dict[str, dict]:
    """{file: {sha256, bytes}} of all files that loading reads."""
    files = sorted({p for pattern in CHECKPOINT_FILES for p in folder.glob(pattern) if p.is_file()})
    return {p.name: file_entry(p) for p in files}
