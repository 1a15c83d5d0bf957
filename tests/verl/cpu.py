"""verl on CPUs, for tests: a platform plug-in, gloo, and a model of transformers where a GPU has vLLM. verl loads it in every process
(VERL_USE_EXTERNAL_MODULES), before any of its own modules that look for a device."""

from __future__ import annotations

import time
import types
from contextlib import contextmanager
from functools import partial

import torch
import verl.utils.distributed as distributed
from ray._private import services
from verl.plugin.platform.platform_base import PlatformBase
from verl.plugin.platform.platform_manager import PlatformRegistry
from verl.workers.rollout import base
from verl.workers.rollout.replica import RolloutReplicaRegistry


class _Device(types.ModuleType):
    """Stands for torch.cuda: nothing is allocated, nothing to wait for."""

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(torch.cpu, name, lambda *args, **more: 0)

    def mem_get_info(self, *args) -> tuple[int, int]:
        return 0, 0

    def get_device_name(self, *args) -> str:
        return "CPU"


@PlatformRegistry.register(platform="cpu")
class Cpu(PlatformBase):
    device_name, vendor_name, device_module = "cpu", "none", _Device("cpu_device")
    is_available = lambda self: True
    current_device = lambda self: torch.device("cpu")
    device_count = lambda self: 8
    set_device = synchronize = set_allocator_settings = lambda self, *args: None
    manual_seed = manual_seed_all = lambda self, seed: torch.manual_seed(seed)
    empty_cache = profiler_start = profiler_stop = lambda self: None
    get_device_capability = lambda self, index=0: (None, None)
    communication_backend_name = lambda self: "gloo"
    visible_devices_envvar = lambda self: "CUDA_VISIBLE_DEVICES"
    ray_resource_name = lambda self: "GPU"
    ray_noset_envvars = lambda self: []
    is_ipc_supported = lambda self: False
    cudart = lambda self: None

    @contextmanager
    def nvtx_range(self, msg: str):
        yield


# else it asks for "cpu:gloo,cpu:gloo"
distributed.initialize_global_process_group_ray = partial(distributed.initialize_global_process_group_ray, backend="gloo")


def _replica() -> type:
    from tests.verl.replica import Replica

    return Replica


RolloutReplicaRegistry.register("vllm", _replica)
base._ROLLOUT_REGISTRY["vllm", "async"] = "tests.verl.replica.Adapter"


def _patient(*asked):
    """Ray gives a busy machine 30 s to start its own processes."""
    end = time.monotonic() + 600
    while True:
        try:
            return _get_node(*asked)
        except RuntimeError:
            if time.monotonic() > end:
                raise
            time.sleep(1)


_get_node, services.get_node = services.get_node, _patient
