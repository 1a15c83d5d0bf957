"""A stand-in for LIBERO's package, of the names that a simulator is asked for: an arm on a line that is done at its end."""

from __future__ import annotations

import sys
from pathlib import Path

FILES = {
    "__init__.py": """
import os, yaml

def get_libero_path(part):
    return yaml.safe_load(open(os.path.join(os.environ["LIBERO_CONFIG_PATH"], "config.yaml")))[part]
""",
    "benchmark/__init__.py": """
from types import SimpleNamespace
import numpy as np

class Suite:
    n_tasks = 2
    def get_task(self, i):
        return SimpleNamespace(language=f"Move to the {('left', 'right')[i]}", problem_folder="line", bddl_file=f"{i}.bddl")
    def get_task_init_states(self, i):
        return np.arange(3) / 100

def get_benchmark_dict():
    return {"libero_spatial": Suite, "libero_goal": Suite}
""",
    "envs/__init__.py": """
import numpy as np

class OffScreenRenderEnv:
    def __init__(self, bddl_file_name, camera_heights, camera_widths):
        self.way, self.side = (-1, 1)[int(open(bddl_file_name).read())], camera_heights
    def seed(self, seed): pass
    def close(self): pass
    def reset(self):
        self.at = None
    def set_init_state(self, state):
        self.at, self.steps = float(state), 0
        return self._seen()
    def _seen(self):
        image = np.zeros((self.side, self.side, 3), dtype=np.uint8)
        image[0, :, 0] = 255 * min(max(self.at + 0.5, 0), 1)  # the first line: the last one of what is shown
        image[:, 0, 1] = self.steps
        return {"agentview_image": image}
    def step(self, motion):
        if motion[0] == 9: raise ValueError("too far\\nor so")
        self.steps += 1
        self.at += 0.1 * motion[0]
        print("what a simulator prints")
        return self._seen(), 0.0, self.at * self.way > 0.25, {}
""",
}


def write_libero(folder: Path) -> Path:
    """A Python that knows the stand-in."""
    package = folder / "packages/libero"
    for name, text in FILES.items():
        file = package / "libero" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (package / "__init__.py").touch()
    for task in range(2):
        file = package / f"libero/bddl_files/line/{task}.bddl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(task))
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="$PYTHONPATH:{folder}/packages" exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return python
