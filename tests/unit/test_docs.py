"""The README's tables name every plug in its own row, with its default, and the page of papers is what their files say."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from opd_steps.config import plug_schema, plugs
from opd_steps.config.merge import merge
from opd_steps.graph.kinds.analyze import ANALYSES
from opd_steps.graph.kinds.opd import OpdNode
from opd_steps.graph.method import Method
from tests import rooms_picture
from tests.paper_table import PAGE, page

ROOT = Path(__file__).parents[2]
ROWS = {
    line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
    for line in (ROOT / "README.md").read_text().splitlines()
    if line.count("|") == 4
}
"""First cell of each row of three cells: the other two."""
PLUGS = [f for cls in (OpdNode, Method) for f in dataclasses.fields(cls) if "plug" in f.metadata]
SLOTS = {f.name: f for f in PLUGS if not f.metadata["optional"]}  # `rows` are those of `prefix`


def listed(cell: str) -> set[str]:
    """The names of a list such as "of the advantage: clip (at 1), zscore; tanh only sometimes": what is in brackets says more of them."""
    items = [item.split() for item in re.split("[,;:]", re.sub(r"\(.*?\)", "", cell))]
    return {words[0] for words in items if words and (len(words) == 1 or "_" in words[0])}


@pytest.mark.parametrize("slot", SLOTS)
def test_each_row_of_the_readme_lists_the_plugs_of_its_slot(slot):
    default, what = ROWS[slot]
    assert listed(what) == set(plug_schema.names(SLOTS[slot].metadata["plug"]))
    options = merge(Method, {}, "x") | merge(OpdNode, {"kind": "opd", "student": "s", "data": "d"}, "x")
    assert default == ("–" if SLOTS[slot].metadata["many"] else options[slot]["name"])


@pytest.mark.parametrize("name", plug_schema.names(ANALYSES))
def test_the_readme_says_what_each_analysis_reads(name):
    reads, what = ROWS[name]
    assert tuple(reads.split(", ")) == plugs.constant(ANALYSES, name, "NEEDS") and what


def test_the_page_of_papers_is_what_the_files_say(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert PAGE.read_text() == page(), "run python -m tests.paper_table"


def test_the_picture_of_the_rooms_is_that_of_the_imports():
    assert rooms_picture.PAGE.read_text() == rooms_picture.page(), "run python -m tests.rooms_picture"


def test_the_page_of_the_architecture_names_files_that_are_there():
    found = re.findall(r"\]\((\.\./[^)]+|[a-z_]+\.md)\)", rooms_picture.PAGE.read_text())
    assert len(found) > 10 and [file for file in found if not (ROOT / "docs" / file).exists()] == []
