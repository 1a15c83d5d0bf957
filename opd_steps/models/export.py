"""The model of a node, or of a part of it, as one whole checkpoint as its library reads it, adapters merged into it; on the hub, too.

python -m opd_steps.models.export results/quickstart/opd/vopd/seed0 my_model [--dtype bfloat16] [--hub owner/name [--revision v1]]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path

from opd_steps.config import plugs
from opd_steps.errors import UserError, disk_errors, one_line_errors
from opd_steps.models.families import Family
from opd_steps.models.folder import MODEL
from opd_steps.models.numerics import Numerics
from opd_steps.store.artifacts import MANIFEST, read_manifest


def export(folder: Path, to: Path, dtype: str = "float32") -> None:
    """Raises UserError for a folder without a model, one whose family writes no checkpoint, and a place where something stands already."""
    if to.exists():
        raise UserError(str(to), "is there already: name another folder")
    family, part = _family(folder), to.with_name(f"{to.name}.part")
    policy = family.policy(folder, numerics=Numerics(dtype, dtype))
    with disk_errors(to):
        shutil.rmtree(part, ignore_errors=True)
        family.save(policy, part)
        if whole := (part / MODEL).is_dir():
            os.rename(part / MODEL, to)
        shutil.rmtree(part)
    if not whole:
        raise UserError(str(folder), "its model is no checkpoint of a library's; what is to be had of it lies there")


def _family(folder: Path) -> Family:
    """That of a node's model, or of the part of a node that lies there."""
    node, part = (folder, "") if (folder / MANIFEST).is_file() else (folder.parents[1], folder.name)
    facts = read_manifest(node)["facts"]
    if not (found := (facts.get("parts", {}).get(part, {}) if part else facts).get("family")):
        raise UserError(str(folder), "holds no model")
    return plugs.load("models/families", found)


def upload(folder: Path, repo: str, revision: str | None = None) -> str:
    """Commit an exported folder to a repository of the hub, made private where it is new, on a branch, made where it is new (None: main);
    the commit's id. The token is that of `hf auth login` or HF_TOKEN. Raises UserError.
    """
    from huggingface_hub import HfApi  # slow to import
    from huggingface_hub.errors import HTTPError

    api, file = HfApi(), next(folder / name for name in ("config.json", "model_index.json") if (folder / name).exists())
    record = json.loads(file.read_text())
    what = record.get("_class_name") or f"{record['architectures'][0]}, {record['dtype']}"
    try:
        api.create_repo(repo, private=True, exist_ok=True)
        if revision:
            api.create_branch(repo, branch=revision, exist_ok=True)
        made = api.upload_folder(repo_id=repo, folder_path=folder, revision=revision, commit_message=what)
    except (HTTPError, OSError, ValueError) as error:
        raise UserError(repo, f"cannot upload {folder}: {' '.join(str(error).split())[:300]}") from None
    return made.oid


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the node: results/<paper>/<kind>/<node>/seed<k>, or parts/<part> in it")
    parser.add_argument("to", type=Path)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--hub", help="owner/name of a repository of the hub that it is uploaded to as well")
    parser.add_argument("--revision", help="a branch there; main by default")
    args = parser.parse_args()
    with one_line_errors():
        if args.revision and not args.hub:
            raise UserError("--revision", "a branch of which repository? name --hub owner/name")
        export(args.folder, args.to, args.dtype)
        print(f"{args.to}: written")
        if args.hub:
            print(
                f"{args.hub}: uploaded; a model node reads it as path: {args.hub}, revision: {upload(args.to, args.hub, args.revision)}"
            )


if __name__ == "__main__":
    main()
