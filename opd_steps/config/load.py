"""config.yaml and the paper files, read and checked. Imports no torch."""

from __future__ import annotations

from pathlib import Path

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from opd_steps.config.merge import merge
from opd_steps.config.schema import Paper, Root
from opd_steps.errors import UserError

PAPERS = Path("workflow/papers")


def load_root(config: dict) -> dict:
    """The checked config.yaml; `config` is Snakemake's dict (command-line values are strings: the types convert them)."""
    config = dict(config)
    if config.get("papers") in ("all", ["all"]):
        config["papers"] = self_contained()
    root = merge(Root, config, "config.yaml")
    for key in ("papers", "seeds"):
        if not root[key]:
            raise UserError(f"config.yaml.{key}", "expected at least one entry")
        if len(set(root[key])) != len(root[key]):
            raise UserError(f"config.yaml.{key}", f"an entry stands twice in {root[key]}")
    return root


def self_contained() -> list[str]:
    """Names of all papers in workflow/papers that need no data from outside: what `papers=all` means."""
    names = []
    for path in sorted(PAPERS.glob("*.yaml")):
        raw = yaml.load(path.read_text(), yaml.CSafeLoader) or {}  # OmegaConf takes ten times as long
        if not (raw.get("paper") or {}).get("external_data", False):
            names.append(path.stem)
    return names


def paper_path(name: str) -> Path:
    path = Path(name) if name.endswith((".yaml", ".yml")) else PAPERS / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in PAPERS.glob("*.yaml")))
        raise UserError("config.yaml.papers", f"no paper file {path}; known papers: {known} (or give a path ending in .yaml)")
    return path


def load_paper(name: str, paths: dict[str, str]) -> dict:
    """One paper file, interpolated (`${paths.x}`: config.yaml's) and typed; node options are typed later, by their kinds."""
    path = paper_path(name)
    try:
        node = OmegaConf.load(path)
        if OmegaConf.is_dict(node):
            node.paths = OmegaConf.merge(node.get("paths") or {}, paths)
        raw = OmegaConf.to_container(node, resolve=True)
    except YAMLError as error:
        raise UserError(str(path), f"not valid YAML: {error}") from None
    except OmegaConfBaseException as error:
        raise UserError(str(path), str(error).split("\n")[0]) from None
    if not isinstance(raw, dict):
        raise UserError(str(path), "expected a mapping with the keys paper, nodes, ...")
    del raw["paths"]
    if isinstance(raw.get("evaluate"), list):  # `evaluate: [a, b]` is short for `evaluate: {models: [a, b]}`
        raw["evaluate"] = {"models": raw["evaluate"]}
    paper = merge(Paper, raw, str(path))
    use = paper["use"]
    paper["use"] = [use] if isinstance(use, str) else list(use or [])
    paper["name"], paper["file"] = path.stem, str(path)
    return paper
