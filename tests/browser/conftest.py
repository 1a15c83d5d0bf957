"""A browser that watches what a page says and asks, and axe-core."""

from __future__ import annotations

import subprocess
import sys
import zipfile

import pytest

from tests.browser.chrome import Chrome

AXE = "axe-playwright-python==0.1.8"  # of which nothing is used but axe.min.js


@pytest.fixture(scope="session")
def axe(tmp_path_factory) -> str:
    """The script of axe-core."""
    folder = tmp_path_factory.mktemp("axe")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check", AXE]
    subprocess.run([*command, "--dest", folder], check=True)
    (wheel,) = folder.glob("*.whl")
    return zipfile.ZipFile(wheel).read("axe_playwright_python/axe.min.js").decode()


@pytest.fixture
def browser(tmp_path):
    """A page that says no error and asks nothing of a network."""
    chrome = Chrome(tmp_path)
    try:
        yield chrome
    finally:
        chrome.close()
    assert chrome.errors == []
    assert [address for address in chrome.asked if not address.startswith(("file:", "data:"))] == []
