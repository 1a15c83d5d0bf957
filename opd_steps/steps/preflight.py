"""Preflight: models that will be compared token by token must speak one token language. Runs before any training."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from opd_steps.artifacts import read_manifest, write_json
from opd_steps.errors import UserError, one_line_errors


def check(results: Path, pairs: list[dict]) -> list[dict]:
    """One entry per pair; raises UserError naming node, both models and what differs. Padded vocabularies are no difference."""
    out = []
    for pair in pairs:
        left, right = (read_manifest(results / pair[side])["facts"]["tokenizer"] for side in ("left", "right"))
        for key, what in (("eos", "end tokens"), ("chat_template_sha", "chat templates"), ("digest", "tokenizers")):
            if left[key] != right[key]:
                shown = f": {left[key]!r} and {right[key]!r}" if key == "eos" else ""
                raise UserError(f"node {pair['node']}", f"{pair['left']} and {pair['right']} have different {what}{shown}")
        out.append({**pair, "tokenizer": left["digest"], "tokens": left["size"]})
    return out


def check_topk(results: Path, asked: list[dict]) -> None:
    """Raises UserError where a method asks for more tokens than the vocabulary has."""
    for entry in asked:
        size = read_manifest(results / entry["model"])["facts"]["tokenizer"]["size"]
        if not 1 <= entry["k"] <= size:
            raise UserError(f"node {entry['node']}.{entry['key']}", f"asks for {entry['k']} tokens, the vocabulary has {size}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", required=True, help="JSON: pairs of {node, left, right}, topk of {node, key, k, model}")
    parser.add_argument("--out", required=True, type=Path)
    args = parser.parse_args()
    with one_line_errors():
        results, asked = args.out.parents[2], json.loads(args.models)
        check_topk(results, asked["topk"])
        write_json(args.out, check(results, asked["pairs"]))


if __name__ == "__main__":
    main()
