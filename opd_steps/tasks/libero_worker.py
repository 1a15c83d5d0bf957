"""One simulator of LIBERO (arXiv 2306.03310) in the environment of `make libero`: python -m opd_steps.tasks.libero_worker FD

Answers what comes through the socket FD, in turn, until its other end is gone:
    ("tasks", suite)                                  -> [(instruction, number of initial states)] of its tasks
    ("begin", suite, task, state, settle, side)       -> image: `settle` steps without motion behind the initial state
    ("act", motions [K, 7])                           -> (image, motions that were done, whether the goal is reached)
An image is [3, side, side] uint8, upright. What goes wrong is sent as the text of an error.
"""

from __future__ import annotations

import os
import sys
import tempfile
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import yaml

GL = "MUJOCO_GL"


def configured() -> Path:
    """A folder with the file in which LIBERO looks for its parts: of the package that is installed, and not one below $HOME that another
    installation wrote; without it, it asks at the keyboard."""
    root = Path(find_spec("libero").submodule_search_locations[0]) / "libero"
    parts = {"bddl_files": "bddl_files", "init_states": "init_files", "datasets": "datasets", "assets": "assets"}
    folder = Path(tempfile.mkdtemp(prefix="libero-"))
    paths = {"benchmark_root": str(root)} | {name: str(root / part) for name, part in parts.items()}
    (folder / "config.yaml").write_text(yaml.safe_dump(paths))
    return folder


class Simulator:
    """One world at a time; another task makes another one."""

    def __init__(self):
        self.made, self.env = None, None

    def suite(self, name: str) -> Any:
        from libero.libero.benchmark import get_benchmark_dict

        return get_benchmark_dict()[name]()

    def tasks(self, suite: str) -> list[tuple[str, int]]:
        found = self.suite(suite)
        return [(found.get_task(i).language, len(found.get_task_init_states(i))) for i in range(found.n_tasks)]

    def begin(self, suite: str, task: int, state: int, settle: int, side: int) -> np.ndarray:
        if self.made != (suite, task, side):
            self._make(suite, task, side)
        self.env.seed(0)
        self.env.reset()
        seen = self.env.set_init_state(self.states[state])
        for _ in range(settle):
            seen = self.env.step([0.0] * 7)[0]
        return self._image(seen)

    def _make(self, suite: str, task: int, side: int) -> None:
        from libero.libero import get_libero_path
        from libero.libero.envs import OffScreenRenderEnv

        if self.env is not None:
            self.env.close()
        found = self.suite(suite)
        goal, self.states = found.get_task(task), found.get_task_init_states(task)
        file = Path(get_libero_path("bddl_files"), goal.problem_folder, goal.bddl_file)
        self.env = OffScreenRenderEnv(bddl_file_name=str(file), camera_heights=side, camera_widths=side)
        self.made = suite, task, side

    def act(self, motions: np.ndarray) -> tuple[np.ndarray, int, bool]:
        done, reached = 0, False
        while done < len(motions) and not reached:
            seen, _, reached, _ = self.env.step(motions[done])
            done += 1
        return self._image(seen), done, bool(reached)

    @staticmethod
    def _image(seen: dict) -> np.ndarray:
        """Turned by half a circle: so demonstrations are shown to OpenVLA, and so stands the table upright."""
        return np.ascontiguousarray(seen["agentview_image"][::-1, ::-1].transpose(2, 0, 1))


def main(fd: int) -> None:
    socket, simulator = Connection(fd), Simulator()
    os.dup2(2, 1)  # what the simulator prints is no result of anybody
    os.environ.setdefault(GL, "egl" if Path("/dev/nvidiactl").exists() else "osmesa")
    os.environ["LIBERO_CONFIG_PATH"] = str(configured())
    while True:
        try:
            name, *asked = socket.recv()
        except EOFError:
            return
        try:
            socket.send(getattr(simulator, name)(*asked))
        except Exception as error:  # of a whole simulator: each part has its own
            socket.send(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
