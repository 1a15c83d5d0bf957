"""The site has every page of docs/, a card for every paper and a section for every plug, and no link of a page leads nowhere."""

from __future__ import annotations

import ast
import re

import pytest

from opd_steps.config import plug_schema, plugs
from tests.options_table import groups, says
from tests.site import cards, pages, pictures, text, verdicts
from tests.site.links import ROOT, place, turned

CLAIMS = sorted((ROOT / "docs").glob("claims*.md"))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of pages, with diagrams left undrawn: what draws them is no package of the tests."""
    folder = tmp_path_factory.mktemp("site")
    patch = pytest.MonkeyPatch()
    patch.chdir(ROOT)
    patch.setattr(pictures, "svg", lambda diagram, theme: f"{theme}: {diagram}")
    pages.assemble(folder)
    patch.undo()
    return folder


def test_every_page_of_docs_is_on_it_and_at_its_side(site):
    side = re.findall(r"^[\w/]+$", (site / "index.md").read_text(), re.M)
    there = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert there <= {*side} and len(side) == len({*side})
    assert all((site / f"{name}.md").exists() for name in side)


def test_every_paper_has_a_card(site):
    for name in (path.stem for path in (ROOT / "workflow/papers").glob("*.yaml")):
        card = (site / f"papers/{name}.md").read_text()
        for heading in ("What it says", "Variants", "Claims", "Code"):
            assert f"\n## {heading}\n" in card, name
        assert f"papers/{name}\n" in (site / "papers.md").read_text()


def test_every_plug_has_a_section_with_its_docstring_and_its_source(site):
    for group in groups():
        sections = dict(part.split("\n", 1) for part in (site / f"plugs/{group}.md").read_text().split("\n## ")[1:])
        for name in plug_schema.names(group):
            assert (
                text.told(says(group, name)) in sections[name]
                and plugs.plug_path(group, name).read_text().rstrip() in sections[name]
            )


def test_every_folder_with_a_protocol_of_plugs_is_a_group():
    held = {
        str(path.parent.relative_to(plugs.PACKAGE))
        for path in plugs.PACKAGE.rglob("__init__.py")
        if any(
            "Protocol" in map(ast.unparse, node.bases)
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.ClassDef)
        )
    }
    assert {*groups()} == held


@pytest.mark.parametrize("file", CLAIMS, ids=lambda file: file.stem)
def test_all_verdicts_are_read_back(file):
    found, page = verdicts.read(file), file.read_text()
    claims, papers = map(int, re.search(r"(\d+) claims of (\d+) papers", page).groups())
    read = [judged for same in found.claims.values() for judged in same]
    assert (len(read), len(found.papers())) == (claims, papers)
    assert sum("**holds**" in judged.verdict for judged in read) == int(re.search(r"(\d+) holds", page)[1])


def test_a_verdict_is_only_that_of_what_it_compared():
    made = cards.Cards.__new__(cards.Cards)
    judged = {("mine", "better"): [verdicts.Judged("a.test/x", ">", "b.test/x", "**holds**", "1", "6")]}
    made.runs = [
        verdicts.Run("old", "then", judged),
        verdicts.Run("claims", "thereafter", judged),
        verdicts.Run("other", "z", {}),
    ]
    assert made.run("mine").page == "claims" and made.run("theirs") is None
    claim = {
        "says": "better",
        "left": "a.test/x",
        "op": ">",
        "right": "b.test/x",
        "margin": None,
        "requires": [],
        "reported": "",
        "differs": "",
    }
    assert made._claim("mine", claim)[2] == "**holds**"
    assert "changed since" in made._claim("mine", claim | {"right": "c.test/x"})[2]
    assert "not in that run" in made._claim("mine", claim | {"says": "worse"})[2]


@pytest.mark.parametrize(
    ("link", "page"),
    [
        ("docs/code.md#x", "/code.md#x"),
        ("README.md", "/index.md"),
        ("workflow/papers/vopd.yaml", "/papers/vopd.md"),
        ("opd_steps/objectives/signals/jsd.py", "/plugs/objectives/signals.md#jsd"),
        ("opd_steps/graph/kinds/opd.py", "/kinds.md#opd"),
        ("opd_steps/loop/train.py", "/files/opd_steps/loop/train.py.md"),
    ],
)
def test_links_are_turned(link, page):
    assert turned(f"a [b]({link})\n```sh\n[c](d)\n```", ROOT, place) == f"a [b]({page})\n```sh\n[c](d)\n```"
    assert turned(f"[b](../{link})", ROOT / "docs", place) == f"[b]({page})"


def test_a_link_that_leads_nowhere_is_an_error():
    with pytest.raises(ValueError, match=r"nowhere\.md, which is no file"):
        turned("[b](nowhere.md)", ROOT / "docs", place)


def test_tables_of_options_lead_to_the_plugs(site):
    for page in ("options", "kinds"):
        assert "| plug: [tasks/worlds](/plugs/tasks/worlds.md) |" in (site / f"{page}.md").read_text()


def test_prose_is_prose_and_columns_stay():
    full = "x" * 95
    assert text.told(f"{full}\ngoes on *here*.\nbeta: an entry\n    a   b\n    c   d") == (
        f"{full} goes on \\*here\\*.\n\nbeta: an entry\n\n```text\n    a   b\n    c   d\n```\n"
    )


def test_each_diagram_is_drawn_for_both_themes(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "svg", lambda diagram, theme: theme + diagram)
    shown = pictures.drawn("a\n```mermaid\nflowchart LR\n```\nb", "page", tmp_path)
    assert "only-light" in shown and "only-dark" in shown and "mermaid\n" not in shown
    assert {path.name: path.read_text() for path in (tmp_path / "images").iterdir()} == {
        "page-0-default.svg": "defaultflowchart LR\n",
        "page-0-dark.svg": "darkflowchart LR\n",
    }
