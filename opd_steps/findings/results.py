"""Published results as report and tracking read them: the plan, and behind each path a manifest and its curves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from opd_steps.errors import UserError
from opd_steps.graph.kinds import KINDS
from opd_steps.store.artifacts import read_manifest
from opd_steps.store.by_prompt import values_by_id
from opd_steps.store.fingerprint import digest
from opd_steps.store.metrics import read_metrics

WEIGHTS = ".safetensors"


@dataclass(frozen=True, eq=False)
class Result:
    """One node and seed. `path` is its folder below the results folder, e.g. "quickstart/opd/vopd/seed0"."""

    root: Path
    path: str

    @property
    def folder(self) -> Path:
        return self.root / self.path

    @cached_property
    def manifest(self) -> dict:
        return read_manifest(self.folder)

    @cached_property
    def curves(self) -> list[dict]:
        """Rows of metrics.jsonl, [] where a node has none."""
        return read_metrics(self.folder / "metrics.jsonl")

    @cached_property
    def timing(self) -> dict:
        """started (s since 1970), wall_s, cpu_s, peak_mib; {} where it was not recorded."""
        try:
            return json.loads(self.folder.with_name(self.folder.name + ".timing.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}

    def by_prompt(self, file: str, value: str) -> dict[str, float]:
        """`value` (Suite.PROMPTS) at every prompt, by the prompt's id; {} where the file, or a value, is not there."""
        if (file, value) not in self._prompts:
            self._prompts[file, value] = self._read_prompts(file, value)
        return self._prompts[file, value]

    @cached_property
    def _prompts(self) -> dict[tuple[str, str], dict[str, float]]:
        return {}

    def _read_prompts(self, file: str, value: str) -> dict[str, float]:
        if file not in self.manifest["files"]:
            return {}
        lines = (self.folder / file).read_text().rstrip("\n").replace("\n", ",")
        rows = json.loads(f"[{lines}]")  # at once: a third of the time that a call a line takes
        return values_by_id(rows, value, self.manifest["facts"])

    @property
    def variant(self) -> str:
        """The node's name; of the evaluation of a part, the part as papers name it: "both:b"."""
        m = self.manifest
        path, _, part = m["config"]["parents"].get("model", "").partition(":")
        return f"{path.split('/')[2]}:{part}" if part and produces(m["kind"]) == "evaluation" else m["node"]

    @cached_property
    def weights_sha256(self) -> str:
        """sha256 of the weights file, of the list of hashes where there are several, "" without weights."""
        files = self.manifest["facts"].get("weights") or self.manifest["files"]  # facts: weights that lie elsewhere
        hashes = [entry["sha256"] for name, entry in sorted(files.items()) if name.endswith(WEIGHTS)]
        return hashes[0] if len(hashes) == 1 else digest(hashes) if hashes else ""

    @cached_property
    def weights_folder(self) -> Path | None:
        """Folder of the weights, None where this node has none of its own."""
        names = sorted(name for name in self.manifest["files"] if name.endswith(WEIGHTS))
        return (self.folder / names[0]).parent if names else None


class Plan:
    """The resolved workflow as written by the rules, with the results it points to."""

    def __init__(self, plan: dict, results: Path):
        self.root, self.papers = plan["root"], plan["papers"]
        self.results = Path(results)
        self._cache: dict[str, Result] = {}

    @classmethod
    def read(cls, file: Path, results: Path) -> Plan:
        """Raises UserError when `file` is missing or not JSON."""
        try:
            return cls(json.loads(Path(file).read_text()), results)
        except (OSError, json.JSONDecodeError) as error:
            raise UserError(str(file), f"cannot read the plan: {error}") from None

    def result(self, path: str) -> Result:
        return self._cache.setdefault(path, Result(self.results, path))

    def nodes(self, paper: str) -> list[dict]:
        """The nodes that a paper needs, by kind in the order of the pipeline, shared ones before its own."""
        rank = {kind: i for i, kind in enumerate(KINDS)}
        return sorted(self.papers[paper]["nodes"].values(), key=lambda node: (rank[node["kind"]], node["owner"] == paper))

    def seeds(self, node: dict) -> dict[int, Result]:
        """The node's results by seed; a node that is pinned to one seed is one result, under the first seed of the run."""
        return {int(seed): self.result(path) for seed, path in distinct(node["paths"]).items()}

    def everything(self) -> dict[str, dict]:
        """Path -> node, each result of all papers once, in plan order."""
        found: dict[str, dict] = {}
        for paper in self.papers:
            for node in self.nodes(paper):
                for path in distinct(node["paths"]).values():
                    found.setdefault(path, node)
        return found


def produces(kind: str) -> str:
    """What nodes of this kind are for others: data, model, evaluation, analysis, ..."""
    return KINDS[kind].PRODUCES


def distinct(by_seed: dict) -> dict:
    """Seeds in order, each different value once."""
    first: dict = {}
    for seed in sorted(by_seed, key=int):
        first.setdefault(by_seed[seed], seed)
    return {seed: value for value, seed in first.items()}
