"""The documentation's site as a reader has it: offline, by its links, in both colours; axe-core finds no fault."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from filelock import FileLock

from tests.browser.accessible import assert_accessible
from tests.browser.chrome import Chrome

ROOT = Path(__file__).parents[2]
PAGES = ("index.html", "concepts.html", "papers/vopd.html", "claims.html", "options.html")


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """The site as `make docs` has built it, or built now."""
    there = ROOT / "build/docs"
    with FileLock(str(tmp_path_factory.getbasetemp().parent / "site.lock")):
        if not (there / "index.html").exists():
            subprocess.run(["make", "docs"], cwd=ROOT, check=True)
    return there


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(site, browser, axe, page, scheme):
    browser.colours(scheme)
    browser.open((site / page).as_uri())
    assert_accessible(browser, axe)


def test_a_card_is_found_from_the_first_page(site, browser: Chrome):
    browser.open((site / "index.html").as_uri())
    browser.events.clear()
    browser.js("[...document.querySelectorAll('a')].find(a => a.getAttribute('href').endsWith('papers/vopd.html')).click()")
    browser.wait("Page.loadEventFired")
    assert "vOPD" in browser.js("document.querySelector('h1').textContent")
