"""One finished run of the smoke paper serves all tests that need results; what a file's tests share is made by one worker, once."""

from __future__ import annotations

import shutil
import signal

import pytest
from filelock import FileLock
from hypothesis import settings

from tests.pipeline.checkout import Checkout

LONG = {"slurm": 3, "chaos": 2, "unit": -1}  # folders in the order that they are begun in, all others at 0

settings.register_profile("distillery", deadline=None)  # no test asserts a time
settings.load_profile("distillery")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Tests that share a fixture of their file, at one parameter of it, are one group: two workers would both make it.

    The longest groups come first, then small tests fill what time is left to each worker (--no-loadscope-reorder keeps it so).
    """
    items.sort(key=lambda item: -LONG.get(item.path.parent.name, 0))
    for item in items:
        shared = [name for name, found in item._fixtureinfo.name2fixturedefs.items() if found[-1].scope == "module"]
        if shared and item.get_closest_marker("xdist_group") is None:
            given = item.callspec.indices if hasattr(item, "callspec") else {}
            # no bracket: behind the last "@" of a test's name xdist takes a group only where no "]" follows
            which = "".join(f"-{given[name]}" for name in shared if name in given)
            item.add_marker(pytest.mark.xdist_group(f"{item.module.__name__}{which}"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Checkout:
    """The smoke paper, run to its end once per test session (shared between pytest's workers). Never change it: see `copy`."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if base.name.startswith("popen-") else base
    folder = shared / "finished"
    with FileLock(str(shared / "finished.lock")):
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            checkout = Checkout(folder)
            checkout.snakemake("all")
            (folder / "done").touch()
    checkout = object.__new__(Checkout)
    checkout.folder = folder
    return checkout


@pytest.fixture
def copy(finished, tmp_path) -> Checkout:
    """A copy of the finished run, results and Snakemake's records included, times kept."""
    checkout = object.__new__(Checkout)
    checkout.folder = tmp_path / "checkout"
    shutil.copytree(finished.folder, checkout.folder, symlinks=True)
    return checkout


@pytest.fixture
def own_signals():
    """Training steps that run in the test's process set handlers of their own."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)
