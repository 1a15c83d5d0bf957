"""verl itself, in its own environment (`make verl`), on the CPU."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from opd_steps.verl.node import python_of_verl
from tests.verl import ENVIRONMENT

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def verl() -> tuple[Path, dict[str, str]]:
    """(its Python, the environment for it on a CPU)."""
    more = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    return python_of_verl(), {**os.environ, **ENVIRONMENT, **more}
