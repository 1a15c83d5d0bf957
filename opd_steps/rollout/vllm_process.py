"""A `vllm serve` of the step's own: its command line, its start, and its end with all of its processes."""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
import time
import urllib.request
from pathlib import Path

import torch

from opd_steps.errors import UserError
from opd_steps.process import devices
from opd_steps.process.launch import free_port
from opd_steps.process.lifetime import Family, closing
from opd_steps.rollout.lengths import engine_length
from opd_steps.rollout.vllm_engine import SETTINGS, on_chip
from opd_steps.rollout.vllm_serve import GIVES_SCORES, TAKES_WEIGHTS, TRANSFER

RANK = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
)  # what a step's processes are told
GRACE = 5.0  # seconds; there is nothing to save, and a cluster gives 30 in all
PACKAGES = Path(__file__).parents[2]


class OwnServer:
    """A server of the step's own, on the GPUs that are kept for it (process.devices). Raises UserError for a taken port, and where no server
    comes up in time.

    key      the option that names the engine
    samples  whether it makes rows: then log-probs are those of the distribution that is sampled from
    learns   whether weights will be sent
    stops    how many stop strings a request may hold; 0: no text is made of tokens
    """

    def __init__(
        self,
        path: str,
        options: dict,
        dtype: str,
        scores: int,
        log: Path,
        key: str = "teacher_engine",
        samples: bool = False,
        learns: bool = False,
        stops: int = 0,
    ):
        self.path, self.options, self.dtype, self.scores, self.log = path, options, dtype, scores, log
        self.key, self.samples, self.learns, self.stops = key, samples, learns, stops
        self.family: Family | None = None
        closing.callback(self.end)

    def start(self) -> str:
        """Its address, once it answers."""
        port = self.options["port"]
        if not port:
            port = free_port()
        else:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    raise UserError(f"{self.key}.port", f"port {port} is in use by another program; 0 takes a free one")
        found = os.pathsep.join(filter(None, [str(PACKAGES), os.environ.get("PYTHONPATH")]))
        environment = SETTINGS | os.environ | {"VLLM_WORKER_MULTIPROC_METHOD": "spawn", "PYTHONPATH": found}  # see vllm_serve
        environment |= {TAKES_WEIGHTS: "1", "VLLM_SERVER_DEV_MODE": "1"} if self.learns else {}
        environment |= {} if self.samples else {GIVES_SCORES: "1"}
        environment |= {"VLLM_MAX_STOP_STRINGS": str(self.stops)} if self.stops else {}  # 4, if it is not told
        environment |= devices.environment(self.key)
        for name in RANK:  # it is no rank of a training
            environment.pop(name, None)
        with self.log.open("ab") as log:
            self.family = Family(self.command(port), stdout=log, stderr=log, env=environment)
        url, end = f"http://127.0.0.1:{port}", time.monotonic() + self.options["start_timeout"]
        while not healthy(url):
            if not (alive := self.family.alive()) or time.monotonic() > end:
                status = self.end()
                why = "did not answer in time" if alive else f"ended with status {status}"
                raise UserError(self.key, f"vllm serve {why}; its log: {self.log}: {self.last_error()}")
            time.sleep(0.5)
        return url

    def end(self) -> int:
        """Exit status of a server that is gone now with all of its processes."""
        return self.family.end(GRACE) if self.family else 0

    def command(self, port: int) -> list[str]:
        options = self.options
        asked = on_chip(not torch.cuda.is_available(), options["kv_cache_mb"], options["eager"]) | {
            "model": self.path,
            "host": "127.0.0.1",
            "port": port,
            "dtype": self.dtype,
            "max_logprobs": self.scores,
            "max_num_seqs": options["batch"],
            "tensor_parallel_size": options["tensor_parallel"],
            "data_parallel_size": copies if (copies := devices.wanted(options) // options["tensor_parallel"]) > 1 else None,
            "gpu_memory_utilization": options["memory"],
            "max_model_len": engine_length(self.path, options["max_model_len"]),
            "seed": 0,
            "skip_tokenizer_init": not self.stops,  # else it sees token ids alone
            "generation_config": "vllm",  # no default of the checkpoint's own
            "logprobs_mode": "processed_logprobs" if self.samples else None,
            "weight_transfer_config": json.dumps({"backend": TRANSFER}) if self.learns else None,
        }
        command = [sys.executable, "-m", "opd_steps.rollout.vllm_serve"]
        for name, value in asked.items():
            if value is not None and value is not False:
                command += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
        return command

    def last_error(self) -> str:
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if "Error" in line]
        return lines[-1] if lines else "no error in it"


def healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return answer.status == 200
    except (OSError, http.client.HTTPException):
        return False
