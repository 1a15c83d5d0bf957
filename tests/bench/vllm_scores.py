"""What a teacher's server takes for its scores: as bytes by our own route, and as vLLM's JSON.

python -m tests.bench.vllm_scores --rows 64 --tokens 128 --topk 0 20 64
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
import time
from pathlib import Path

import torch

from opd_steps.graph.options import TeacherEngine
from opd_steps.models.folder import load_tokenizer, where
from opd_steps.rollout.vllm_link import ROUTE
from opd_steps.rollout.vllm_serve import SCORES
from opd_steps.rollout.vllm_server import VllmServer
from opd_steps.seeds import rng
from tests.bench.measuring import chip
from tests.pipeline.stages import save_checkpoint

SHAPE = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "head_dim": 32, "initializer_range": 0.2}
TICK = os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--topk", type=int, nargs="+", default=[0, 20, 64])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = save_checkpoint(Path(folder) / "teacher/model", **SHAPE).parent
        options = dataclasses.asdict(TeacherEngine()) | {
            "name": "server",
            "kv_cache_mb": 64,
            "max_model_len": args.tokens,
            "batch": 64,
        }
        options |= {"start_timeout": 3600}
        server = VllmServer(where(path), options, "float32", load_tokenizer(path), max(args.topk), Path(folder) / "log")
        rows = [rng("row", i).integers(0, 200, args.tokens).tolist() for i in range(args.rows)]
        print(f"{chip()}; {args.rows} rows of {args.tokens} tokens; CPU seconds of server + client; MiB of the answer")
        for k in args.topk:
            ways = {
                "json": lambda k=k: server._as_json(rows, [1] * len(rows), k),
                "bytes": lambda k=k: server._as_bytes(rows, [1] * len(rows), k),
            }
            sizes = {
                "json": len(server.posted(ROUTE, server._request(rows, k))),
                "bytes": len(server.posted(SCORES, {"rows": rows, "starts": [1] * len(rows), "k": k})),
            }
            found = {}
            for name, ask in ways.items():
                before = _cpu(server.own.family.pid), time.process_time()
                found[name] = ask()
                after = _cpu(server.own.family.pid), time.process_time()
                there, here = (b - a for a, b in zip(before, after, strict=True))
                print(f"k {k:3d}  {name:5s}  {there:6.2f} + {here:5.2f}  {sizes[name] / 2**20:7.2f} MiB", flush=True)
            gap = max(
                float((a - b).abs().max()) for one, other in zip(*found.values(), strict=True) for a, b in [(one[0], other[0])]
            )
            print(f"       log-probs differ by at most {gap:.1g}")
        server.close()


def _cpu(group: int) -> float:
    """CPU seconds of the processes of a session."""
    total = 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group:
            total += (int(fields[11]) + int(fields[12])) / TICK
    return total


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
