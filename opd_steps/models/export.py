"""The model of a node, or of a part of it, as one whole checkpoint in the HF format, adapters merged into it.

python -m opd_steps.models.export results/quickstart/opd/vopd/seed0 my_model [--dtype bfloat16]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from opd_steps.errors import UserError, disk_errors, one_line_errors
from opd_steps.models.folder import load_model, load_tokenizer, save_model


def export(folder: Path, to: Path, dtype: str = "float32") -> None:
    """Raises UserError for a folder without a model, and for a place where something stands already."""
    if to.exists():
        raise UserError(str(to), "is there already: name another folder")
    model, tokenizer = load_model(folder, dtype), load_tokenizer(folder)
    with disk_errors(to):
        save_model(model, tokenizer, to)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the node: results/<paper>/<kind>/<node>/seed<k>, or parts/<part> in it")
    parser.add_argument("to", type=Path)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    args = parser.parse_args()
    with one_line_errors():
        export(args.folder, args.to, args.dtype)
    print(f"{args.to}: written")


if __name__ == "__main__":
    main()
