"""The README names every plug, and the page of papers is what their files say."""

from __future__ import annotations

from pathlib import Path

import pytest

from opd_steps.config import plugs
from tests.paper_table import PAGE, page

ROOT = Path(__file__).parents[2]
GROUPS = [
    *(
        f"objectives/{group}"
        for group in ("targets", "supports", "signals", "estimators", "baselines", "transforms", "weights")
    ),
    "teachers/sources",
    "teachers/contexts",
    "tasks/selection",
    "schedules",
    "hooks",
    "analyses",
]


@pytest.mark.parametrize("group", GROUPS)
def test_the_readme_names_every_plug(group):
    words = set(
        (ROOT / "README.md").read_text().replace(",", " ").replace(";", " ").replace(":", " ").replace("|", " ").split()
    )
    assert [name for name in plugs.names(group) if name not in words] == []


def test_the_page_of_papers_is_what_the_files_say(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert PAGE.read_text() == page(), "run python -m tests.paper_table"
