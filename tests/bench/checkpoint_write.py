"""How long a training waits for a checkpoint: weights and both moments of Adam in fp32, synced to disk, at once and beside the steps.

python -m tests.bench.checkpoint_write --millions 100 --folder results
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch

from opd_steps.loop.saver import Saver


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--millions", type=int, default=100, help="parameters")
    parser.add_argument("--folder", type=Path, default=Path("."), help="on the file system to measure")
    args = parser.parse_args()
    layers = torch.nn.ModuleList(torch.nn.Linear(1000, 1000, bias=False) for _ in range(args.millions))
    optimizer = torch.optim.AdamW(layers.parameters())
    for p in layers.parameters():
        p.grad = torch.randn_like(p)
    optimizer.step()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        saver, begun = Saver(Path(folder), beside=True), time.monotonic()
        saver.save(1, {"": (layers, optimizer)}, {})
        stall = time.monotonic() - begun
        saver.settle(wait=True)
        beside = time.monotonic() - begun
        saver, begun = Saver(Path(folder), beside=False), time.monotonic()
        saver.save(2, {"": (layers, optimizer)}, {})
        seconds = time.monotonic() - begun
        size = sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file()) / 1e6
    print(
        json.dumps(
            {
                "million parameters": args.millions,
                "MB": round(size),
                "seconds": round(seconds, 2),
                "seconds that a step waits with checkpoint_async": round(stall, 2),
                "until that one is written": round(beside, 2),
                "MB/s": round(size / seconds),
            }
        )
    )


if __name__ == "__main__":
    main()
