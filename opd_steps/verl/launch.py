"""verl's run of one node, in verl's environment: python -m opd_steps.verl.launch job.json

The job holds verl's keys that differ from its defaults, and what our trainer asks for beside them (config.distillery).
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from importlib import metadata
from pathlib import Path

import ray
import verl
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf, open_dict
from verl.trainer.main_ppo import TaskRunnerV1, run_ppo
from verl.utils.config import validate_config

from opd_steps.verl.settings import FAILED, STOPPED

PATIENCE = 600.0
OPEN = ("fsdp_config", "agent")
"""Parts of verl's configuration whose dataclasses know more keys than its files list."""


def configured(keys: dict, ours: dict) -> DictConfig:
    """verl's configuration with these keys. Raises KeyError for one that verl does not know."""
    with initialize_config_dir(str(Path(verl.__file__).parent / "trainer/config"), version_base=None):
        config = compose("ppo_trainer")
    for key, value in keys.items():
        if isinstance(value, str) and value.startswith("yaml:"):
            value = yaml.safe_load(value.removeprefix("yaml:"))
        parent, _, name = key.rpartition(".")
        branch = OmegaConf.select(config, parent)
        known = branch is not None and (name in list(branch.keys()) or parent.endswith(OPEN) or "ray_init" in key)
        if not known:
            raise KeyError(f"verl {verl.__version__} has no key {key}")
        OmegaConf.update(config, key, value, force_add=True)
    passed_on = {name: value for name, value in os.environ.items() if name == "PYTHONPATH" or name.startswith("VERL_")}
    with open_dict(config):
        config.distillery = ours
        # a Ray that runs already has an environment of its own
        config.ray_kwargs.ray_init.runtime_env = {"env_vars": passed_on}
    return config


def joined(address: str, machines: int) -> None:
    """Wait until a Ray that was just started has as many. Raises RuntimeError after PATIENCE seconds."""
    end, there = time.monotonic() + PATIENCE, 0
    while there < machines:
        if time.monotonic() > end:
            raise RuntimeError(f"of {machines} machines {there} have joined Ray in {PATIENCE:.0f} s")
        try:
            if not ray.is_initialized():
                ray.init(address, log_to_driver=False)
            there = sum(node["Alive"] for node in ray.nodes())
        except (ConnectionError, RuntimeError, TimeoutError):
            there = 0  # its first machine has not begun
        time.sleep(1)
    ray.shutdown()


@ray.remote
class Runner(TaskRunnerV1.__ray_metadata__.modified_class):
    """verl's, in whose process our trainer is known by its name."""

    def run(self, config):
        import opd_steps.verl.trainer  # noqa: F401

        return super().run(config)


def versions() -> dict[str, str]:
    """Of what trained, as far as it is there."""
    found = {}
    for name in ("verl", "ray", "torch", "transformers", "vllm"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    work = Path(job["ours"]["work"])
    try:
        config = configured(job["keys"], job["ours"])
        (work / "verl.yaml").write_text(OmegaConf.to_yaml(config))
        (work / "versions.json").write_text(json.dumps(versions()))
        validate_config(config, use_reference_policy=False, use_critic=False)
        if job["ours"]["machines"] > 1:
            joined(config.ray_kwargs.ray_init.address, job["ours"]["machines"])
        run_ppo(config, Runner)
    except Exception as error:
        cause = getattr(error, "cause", None) or error
        print(error, file=sys.stderr, flush=True)
        if type(cause).__name__ == "Stopped":
            sys.exit(STOPPED)
        (work / "failed").write_text(f"{type(cause).__name__}: {' '.join(str(cause).split())[-500:]}")
        sys.exit(FAILED)
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
