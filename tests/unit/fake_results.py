"""A results tree and its plan, made of numbers alone: two papers, one of which uses the other's nodes."""

from __future__ import annotations

import json
import math
from pathlib import Path

from opd_steps.findings.results import Plan
from opd_steps.seeds import rng
from opd_steps.store.artifacts import sealed
from opd_steps.store.files import write_json, write_jsonl
from opd_steps.store.fingerprint import digest
from opd_steps.store.metrics import summarise

SEEDS = (0, 1, 2, 3, 4)
STEPS = 40
N_PROMPTS, K = 300, 8
_SKILL = {"base": 0.12, "teacher": 0.83, "student_sft": 0.41, "opd": 0.62, "vopd": 0.71, "topk": 0.66, "jsd": 0.6, "again": 0.7}
_METRICS = {"pretrain": ("loss", "grad_norm", "lr")} | dict.fromkeys(("sft",), ("loss", "grad_norm"))
_METRICS["rl"] = ("reward", "entropy", "length", "loss", "grad_norm", "lr")
_METRICS["opd"] = ("reward", "divergence", "log_ratio", "entropy", "length", "loss", "grad_norm", "lr")


DIRECTIONS = {"test/accuracy": "up", "test/avg_at_k": "up", "test/pass_at_k": "up", "own/entropy": "", "own/reverse_kl": "down"}


_BY_PROMPT = {"test/accuracy": "correct", "test/avg_at_k": "c / k", "test/pass_at_k": "c > 0"}
PROMPTS = {
    metric: {"file": "samples/test.jsonl", "value": value, "data": "quickstart/data/sums"}
    for metric, value in _BY_PROMPT.items()
}


def with_figure(plan: Plan, path: str, metric: str, value: float | None) -> Plan:
    """The plan, with another figure in one manifest as it is read; None takes it out. (No manifest with nan would be read at all.)"""
    manifest = dict(plan.result(path).manifest)
    manifest["metrics"] = {k: v for k, v in (manifest["metrics"] | {metric: value}).items() if v is not None}
    plan.result(path).__dict__["manifest"] = manifest
    return plan


class FakeResults:
    """`plan` (the JSON that the rules write) and its results below `root`."""

    def __init__(self, root: Path, seeds: tuple[int, ...] = SEEDS):
        self.root, self.seeds, self.fingerprints = root / "results", seeds, {}
        self.plan_file = root / "plan.json"
        self.nodes: dict[str, dict] = {}
        self._quickstart()
        self._vopd()
        tracking = {"uri": f"sqlite:///{self.root}/mlflow.db", "experiment": "distillery"}
        root_config = {"papers": ["quickstart", "vopd"], "seeds": list(seeds), "scale": "tiny", "tracking": tracking}
        self.plan = {"root": root_config, "papers": {name: self._paper(name) for name in ("quickstart", "vopd")}}
        for key in self.nodes:
            self.publish(key)
        self.write_plan()

    def write_plan(self) -> None:
        write_json(self.plan_file, self.plan)

    def _node(
        self, owner: str, kind: str, name: str, pin: int | None = None, method: dict | None = None, **parents: str
    ) -> str:
        key = f"{owner}/{kind}/{name}"
        options = {"steps": STEPS, "optim": {"lr": 1e-3, "betas": [0.9, 0.95]}, **parents} | (
            {"method": method} if method else {}
        )
        paths = {str(s): f"{key}/seed{s if pin is None else pin}" for s in self.seeds}
        found = {
            role: next(k for k in self.nodes if k.endswith(f"/{name}") and "/evaluate/" not in k)
            for role, name in parents.items()
        }
        node = {
            "kind": kind,
            "name": name,
            "owner": owner,
            "family": "",
            "point": {},
            "options": options,
            "parents": found,
            "paths": paths,
        }
        self.nodes[key] = node
        return key

    def _evaluate(self, owner: str, *names: str) -> None:
        for name in names:
            self.nodes[self._node(owner, "evaluate", name, model=name, data="sums")]["directions"] = DIRECTIONS

    def _quickstart(self) -> None:
        self._node("quickstart", "data", "sums", pin=0)
        self._node("quickstart", "model", "fresh", data="sums")
        self._node("quickstart", "pretrain", "base", model="fresh", data="sums")
        self._node("quickstart", "rl", "teacher", policy="base", data="sums")
        self._node("quickstart", "rollout", "traces", policy="teacher", data="sums")
        self._node("quickstart", "sft", "student_sft", student="base", data="traces")
        plain = {"baseline": {"name": "none"}, "signal": {"name": "log_ratio"}, "weight": []}
        self._node("quickstart", "opd", "opd", method=plain, student="student_sft", teacher="teacher", data="sums")
        self._evaluate("quickstart", "base", "teacher", "student_sft", "opd")

    def _vopd(self) -> None:
        method = {"baseline": {"name": "neg_kl"}, "signal": {"name": "log_ratio"}, "weight": []}
        self._node("vopd", "opd", "vopd", method=method, student="student_sft", teacher="teacher", data="sums")
        method = {"baseline": {"name": "none"}, "signal": {"name": "reverse_kl"}, "weight": [{"name": "clip", "high": 5.0}]}
        self._node("vopd", "opd", "topk", method=method, student="student_sft", teacher="teacher", data="sums")
        self._node("vopd", "score", "scores", rollouts="traces", teacher="teacher")
        self._node("vopd", "opd", "jsd", method={**method, "signal": {"name": "jsd"}}, student="student_sft", scores="scores")
        self._evaluate("vopd", "vopd", "topk", "jsd")
        moved = self._node("vopd", "analyze", "moved", model="vopd", other="student_sft")
        self.nodes[moved]["options"]["analysis"] = {"name": "update", "ratio": 0.1}

    def _paper(self, name: str) -> dict:
        nodes = {k.split("/", 1)[1]: n for k, n in self.nodes.items() if name == "vopd" or n["owner"] == name}
        paths = lambda model: self.nodes[next(k for k in self.nodes if k.endswith(f"/evaluate/{model}"))]["paths"]
        term = lambda model, metric: {"paths": paths(model), "metric": metric, "prompts": PROMPTS.get(metric)}
        side = lambda model, metric: {"label": f"{model}.{metric}", "terms": [term(model, metric)]}
        train = {"paths": self.nodes["quickstart/opd/opd"]["paths"], "metric": "train/reward", "prompts": None}
        train = {"label": "opd.train/reward", "terms": [train]}
        claim = {"test": "t", "same_contract": False, "differs": "tiny model, built-in arithmetic", "reported": "+2.1 points"}
        claim |= {"margin": None, "requires": [], "unequal": []}
        value = {"value": 0.5, "label": "0.5"}
        behind = {"name": "behind", "why": "there is something to learn", "op": ">"}
        behind |= {"left": side("teacher", "test/avg_at_k"), "right": side("student_sft", "test/avg_at_k")}
        weak = {"name": "weak", "why": "a student that knows it all", "op": ">", "left": side("student_sft", "test/accuracy")}
        gained = {"label": "vopd.test/avg_at_k - student_sft.test/avg_at_k"}
        gained["terms"] = [term("vopd", "test/avg_at_k"), term("student_sft", "test/avg_at_k")]
        both = {
            "quickstart": [
                {"id": "helps", "says": "distillation beats its cold start", "op": ">", **claim}
                | {"left": side("opd", "test/avg_at_k"), "right": side("student_sft", "test/avg_at_k")},
                {"id": "half", "says": "reward ends above one half", "op": ">", **claim, "same_contract": True}
                | {"left": train, "right": value, "differs": "", "reported": ""},
            ],
            "vopd": [
                {"id": "baseline", "says": "the control variate improves accuracy at equal budget", "op": ">", **claim}
                | {"left": side("vopd", "test/avg_at_k"), "right": side("opd", "test/avg_at_k")},
                {"id": "worse", "says": "a claim that goes the wrong way", "op": "<", **claim}
                | {
                    "unequal": [
                        {"what": "steps", "left": "60", "right": "80", "why": "as in the paper"},
                        {"what": "lr", "left": "1", "right": "2", "why": None},
                    ]
                }
                | {"left": side("vopd", "test/accuracy"), "right": side("student_sft", "test/accuracy")},
                {"id": "sign", "says": "reverse KL falls", "op": "<", **claim, "test": "sign"}
                | {"left": side("vopd", "own/reverse_kl"), "right": side("opd", "own/reverse_kl")},
                {"id": "missing", "says": "nobody measured this", "op": ">", **claim}
                | {"left": side("jsd", "ood/accuracy"), "right": value},
                {"id": "gain", "says": "it gains nearly as much as it ever could", "op": ">=", **claim, "margin": 0.5}
                | {"left": gained, "right": value, "requires": [behind]},
                {"id": "here", "says": "a claim for students that are nearly perfect", "op": ">", **claim}
                | {"left": side("vopd", "test/accuracy"), "right": side("opd", "test/accuracy")}
                | {"requires": [behind, weak | {"right": {"value": 0.9, "label": "0.9"}}]},
            ],
        }
        titles = {
            "quickstart": "Quickstart: teacher, cold start, distillation",
            "vopd": "KL for a KL: a control variate for OPD",
        }
        axes = {"teacher": "external", "signal": "logits", "rollouts": "all", "slot": "post-sft"}
        notes = (
            "Tiny models, trained on the spot.\n\nThe claims keep the paper's direction, not its scale."
            if name == "vopd"
            else ""
        )
        meta = {"title": titles[name], "arxiv": "2605.07865" if name == "vopd" else "", "axes": axes, "notes": notes}
        return meta | {"file": f"workflow/papers/{name}.yaml", "nodes": nodes, "claims": both[name]}

    def publish(self, key: str, version: int = 0) -> None:
        """Write the node's results; another `version` is another fingerprint."""
        node = self.nodes[key]
        for path in dict.fromkeys(node["paths"].values()):
            self._publish(path, node, version)

    def _publish(self, path: str, node: dict, version: int) -> None:
        folder, seed, draw = self.root / path, int(path.rsplit("seed", 1)[1]), rng(path, version)
        metrics: dict[str, float] = {}
        files: dict[str, dict] = {}
        if names := _METRICS.get(node["kind"]):
            rows = [{"step": k} | {f"train/{n}": _curve(n, node["name"], k, draw) for n in names} for k in range(1, STEPS + 1)]
            write_jsonl(folder / "metrics.jsonl", rows)
            metrics = summarise(rows)
            files |= _file(folder, "model/model.safetensors", f"weights of {path} {version}")
        if node["kind"] == "opd":
            files |= _file(folder, "tokens.jsonl", "".join(json.dumps(row) + "\n" for row in _tokens(draw)))
        if node["kind"] == "evaluate":
            rows = _samples(_SKILL[node["name"]], draw)
            metrics = _evaluation(_SKILL[node["name"]], rows, draw, "teacher" not in node["name"])
            files |= _file(folder, "tables/test.json", json.dumps([{"prompt": "1+1", "right": True}]))
            passed = {"test": {"1": metrics["test/avg_at_k"], str(K): metrics["test/pass_at_k"]}}
            files |= _file(folder, "tables/passk.json", json.dumps(passed))
            files |= _file(folder, "pictures/test.png", "no image, for who only copies it")
            files |= _file(folder, "films/test.html", "a film, for who only copies it")
            files |= _file(folder, "samples/test.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        if node["kind"] == "rollout":
            metrics = {"rollout/accuracy": 0.8 + 0.02 * draw.standard_normal()}
        if node["kind"] == "analyze":
            metrics = {"update/norm": 2.5 + 0.1 * draw.standard_normal(), "update/sparsity_rel1e-3": 0.25}
        fingerprint = digest([path, version])
        self.fingerprints[path] = fingerprint
        options = {k: v for k, v in node["options"].items() if k not in node["parents"]}
        parents = {role: self.nodes[parent]["paths"][str(seed)] for role, parent in node["parents"].items()}
        manifest = {
            "kind": node["kind"],
            "node": node["name"],
            "paper": node["owner"],
            "seed": seed,
            "fingerprint": fingerprint,
            "config": {"kind": node["kind"], "options": options, "parents": parents, "seed": seed},
            "code": {"opd_steps/steps/x.py": "abc"},
            "sources": {},
            "parents": {role: {"path": p, "content": digest(self.fingerprints[p])} for role, p in parents.items()},
            "files": files,
            "metrics": metrics,
            "facts": {"k": K} if node["kind"] == "evaluate" else {},
            "git_commit": "0123456789abcdef0123456789abcdef01234567+",
        }
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "manifest.json", sealed(manifest))
        timing = {"started": 1.7e9 + seed, "wall_s": 31.0 + seed, "cpu_s": 28.5 + 3 * draw.random(), "peak_mib": 400.0}
        write_json(folder.with_name(folder.name + ".timing.json"), timing)


def _file(folder: Path, name: str, text: str) -> dict[str, dict]:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return {name: {"sha256": digest(text), "bytes": len(text)}}


def _tokens(draw) -> list[dict]:
    """Two responses at each of three steps; the last token of each is masked."""
    columns = lambda: {"log_ratio": draw.standard_normal(4).round(3).tolist(), "weight": [1.0, 1.0, 1.0, 0.0]}
    row = lambda: {"prompt": "1+1=", "reward": 1.0, "length": 4, "tokens": [*"two", "<eos>"], "heard": [[0, "?"]]}
    return [{"step": step} | row() | {"columns": columns()} for step in (1, STEPS // 2, STEPS) for _ in range(2)]


def _curve(metric: str, name: str, step: int, draw) -> float:
    skill, done, noise = _SKILL.get(name, 0.5), 1 - math.exp(-step / 12), draw.standard_normal()
    match metric:
        case "reward":
            return 0.3 + (skill - 0.3) * done + 0.02 * noise
        case "length":
            return 14 - 4 * skill * done + 0.3 * noise
        case "lr":
            return 1e-3
        case "loss":
            return 0.2 * noise - skill * done
        case _:
            return abs(1.2 - skill * done + 0.05 * noise)


def _samples(skill: float, draw) -> list[dict]:
    """A row for each prompt: whether the greedy answer is right, and how many of K samples are."""
    greedy, counts = draw.random(N_PROMPTS) < skill, draw.binomial(K, skill, N_PROMPTS)
    return [
        {
            "id": f"test-{i}",
            "prompt": f"{i}+1=",
            "answer": str(i + 1),
            "greedy": str(i + right),
            "correct": bool(right),
            "c": int(c),
        }
        for i, (right, c) in enumerate(zip(greedy, counts, strict=True))
    ]


def _evaluation(skill: float, rows: list[dict], draw, teacher: bool) -> dict[str, float]:
    noise, of = draw.standard_normal(3), lambda value: sum(map(value, rows)) / len(rows)
    metrics = {"test/accuracy": of(lambda row: row["correct"]), "test/accuracy_stderr": 0.031}
    metrics |= {"test/avg_at_k": of(lambda row: row["c"] / K), "test/pass_at_k": of(lambda row: row["c"] > 0)}
    metrics |= {"own/entropy": 1.1 - skill + 0.02 * noise[0], "own/length": 12 + noise[1]}
    return metrics | ({"own/reverse_kl": 0.9 - skill + 0.02 * noise[2]} if teacher else {})
