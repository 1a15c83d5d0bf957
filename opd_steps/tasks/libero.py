"""LIBERO's simulators of this process, and the tasks that they know."""

from __future__ import annotations

from opd_steps.tasks.simulators import Simulators

simulators = Simulators("opd_steps.tasks.libero_worker", "libero")


def known_tasks(suite: str) -> list[tuple[str, int]]:
    """Instruction and number of initial states of each task of a suite."""
    return simulators.ask({0: ("tasks", suite)})[0]
