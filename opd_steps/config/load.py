"""config.yaml and the paper files, read and checked. Imports no torch."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml

from opd_steps.config.layers import Layers
from opd_steps.config.merge import merge, typed
from opd_steps.config.scalars import shown
from opd_steps.config.schema import Paper, Root
from opd_steps.config.yaml_file import read
from opd_steps.errors import UserError

CONFIG = Path("config.yaml")
PAPERS = Path("workflow/papers")
PATHVARS = ("results", "logs")
TAKEN = ("report", "mlflow.db")  # names in results/ that no paper may have
_MARKS = set("{}<>")  # Snakemake would read them as patterns
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_INHERITED = ("title", "arxiv", "external_data", "axes")  # by the file that stands for a paper at a scale


def load_root(config: dict) -> dict:
    """The checked config: `config` is Snakemake's dict of config.yaml and the command line, over the defaults.

    config.yaml is read again here, because Snakemake reads it as YAML 1.1 and keeps the last of two equal keys.
    """
    written, given = _from_file(config, *config_file()) if CONFIG.exists() else ({}, config)
    layers = Layers(str(CONFIG), [(str(CONFIG), written), ("--config", given)])
    with layers.blamed():
        merged = layers.merged()
        if merged.get("papers") in ("all", ["all"]):
            merged["papers"] = self_contained()
        root = merge(Root, merged, str(CONFIG))
        for name in root["papers"]:
            paper_path(name, f"{CONFIG}.papers")
    return root


def config_file() -> tuple[dict, dict]:
    """config.yaml as it is written, and as Snakemake reads it. Raises UserError."""
    file = read(CONFIG)
    if not isinstance(file, dict):
        raise UserError(str(CONFIG), f"expected a mapping with the keys papers, seeds, ...; found {shown(file)}")
    try:
        return file, yaml.load(CONFIG.read_bytes(), yaml.CSafeLoader)
    except (ValueError, yaml.YAMLError) as error:  # e.g. an impossible date
        raise UserError(str(CONFIG), f"not readable as YAML 1.1, which Snakemake takes: {error}; put it in quotes") from None


def _from_file(config: dict, file: dict, as_snakemake: dict) -> tuple[dict, dict]:
    """(what comes from the file, spelled as it is there; what comes from the command line)."""
    written, given = {}, {}
    for key, value in config.items():
        same = value == (there := as_snakemake.get(key)) or (value != value and there != there)  # nan
        if key in file and same:
            written[key] = file[key]
        elif isinstance(value, dict) and isinstance(file.get(key), dict) and isinstance(as_snakemake.get(key), dict):
            written[key], given[key] = _from_file(value, file[key], as_snakemake[key])
        else:
            given[key] = value
    return written, given


def pathvars(config: dict) -> dict[str, str]:
    """Snakemake's path variables that a config sets. Raises UserError for one that no rule uses, or that names no folder."""
    place = str(CONFIG) if CONFIG.exists() and "pathvars" in config_file()[0] else "--config"
    given = config.get("pathvars", {})
    if not isinstance(given, dict) or not given.keys() <= {*PATHVARS}:
        wanted = "{results: <folder>, logs: <folder>} or one of them"
        raise UserError(f"{place}.pathvars", f"expected {wanted}, found {shown(given)}")
    for name, folder in given.items():
        if not isinstance(folder, str) or not folder.strip() or not folder.isprintable() or set(folder) & _MARKS:
            raise UserError(f"{place}.pathvars.{name}", f"expected a folder, without {{ }} < >; found {shown(folder)}")
    return given


def results_folder(config: dict) -> Path:
    """The folder that Snakemake's path variable `results` names. Raises UserError where results or logs can't be written."""
    given = pathvars(config)
    for name in PATHVARS:
        require_place(Path(given.get(name, name)), name)
    return Path(given.get("results", "results"))


def require_place(folder: Path, what: str = "results") -> None:
    """Raises UserError where something that is no folder stands at `folder`, or on the way to it."""
    there = next((path for path in (folder, *folder.parents) if os.path.lexists(path)), Path())
    if not there.is_dir():
        raise UserError(str(there), f"{what} go into this folder, and something else stands there")


def self_contained() -> list[str]:
    """Names of all papers in workflow/papers that need no data from outside: what `papers=all` means."""
    names = []
    for path in sorted(PAPERS.glob("*.yaml")):
        raw = read(path)
        meta = raw.get("paper") if isinstance(raw, dict) else None
        if not (isinstance(meta, dict) and meta.get("external_data", False)):
            names.append(path.stem)
    return names


def paper_path(name: str, where: str) -> Path:
    """The file of a paper that is named in `where`. Raises UserError when there is none, or its name cannot be a folder's."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else PAPERS / f"{name}.yaml"
    if not _NAME.fullmatch(path.stem) or path.stem in TAKEN:
        wanted = "1 to 100 letters, digits, '_', '.' or '-', the first a letter or digit"
        raise UserError(where, f"{shown(path.stem)} names no paper: {wanted}; not {', '.join(TAKEN)}")
    try:
        found = path.is_file()
    except OSError:  # a folder's name that is too long
        found = False
    if not found:
        known = ", ".join(sorted(p.stem for p in PAPERS.glob("*.yaml")))
        raise UserError(where, f"no paper file {path}; known papers: {known} (or give a path ending in .yaml)")
    return path


def load_paper(name: str, paths: dict[str, str], where: str = f"{CONFIG}.papers", scale: str = "") -> dict:
    """One paper file, interpolated (`${paths.x}`: config.yaml's) and typed; node options are typed later, by their kinds. At a `scale`
    for which it names another file, that one under its name.

    `where`: the file and key that name it.
    """
    path = paper_path(name, where)
    found = _paper(path, paths) | {"name": path.stem}
    if not (file := found["scales"].get(scale, {}).get("file")):
        return found
    named = f"{path}.scales.{scale}.file"
    if not (other := path.parent / file).is_file():
        raise UserError(named, f"no such file: {other}")
    there = _paper(other, paths, {key: found["paper"][key] for key in _INHERITED})
    if there["scales"].get(scale, {}).get("file"):
        raise UserError(f"{other}.scales.{scale}.file", f"{path} named this file for the scale; it cannot name a further one")
    return there | {"name": path.stem}


def _paper(path: Path, paths: dict[str, str], meta: dict | None = None) -> dict:
    """A paper file as typed data with its `file`. `meta`: what its section `paper` inherits."""
    raw = read(path)
    if not isinstance(raw, dict):
        raise UserError(str(path), f"expected a mapping with the keys paper, nodes, ...; found {shown(raw)}")
    own = typed(dict[str, str], raw.get("paths", {}), f"{path}.paths")
    raw = _interpolated({**raw, "paths": own | paths}, path)
    del raw["paths"]
    if isinstance(raw.get("evaluate"), list):  # `evaluate: [a, b]` is short for `evaluate: {models: [a, b]}`
        raw["evaluate"] = {"models": raw["evaluate"]}
    if isinstance(raw.get("use"), str):  # `use: a` is short for `use: [a]`
        raw["use"] = [raw["use"]]
    if meta and isinstance(about := raw.get("paper", {}), dict):
        raw["paper"] = meta | about
    return merge(Paper, raw, str(path)) | {"file": str(path)}


def _interpolated(raw: dict, path: Path) -> dict:
    if not _has_interpolation(raw):
        return raw
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.to_container(OmegaConf.create(raw), resolve=True)
    except OmegaConfBaseException as error:
        at = f"{path}.{error.full_key}" if error.full_key else str(path)
        raise UserError(at, str(error).split("\n")[0]) from None


def _has_interpolation(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_interpolation, value.values()))
    return any(map(_has_interpolation, value)) if isinstance(value, list) else isinstance(value, str) and "${" in value
