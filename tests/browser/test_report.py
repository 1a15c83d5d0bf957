"""The report as its reader has it: filters, links, tokens and keys in a real browser; nothing asked of a network; axe-core finds no fault."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from opd_steps.steps.report import run
from tests.browser.accessible import assert_accessible
from tests.browser.chrome import Chrome
from tests.unit.fake_results import FakeResults

TEMPLATE = Path(__file__).parents[2] / "workflow" / "report"
HIDDEN = "part => getComputedStyle(part).display === 'none'"


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """Folder of the pages of two papers."""
    fake = FakeResults(tmp_path_factory.mktemp("report"))
    run(fake.plan_file, fake.root, TEMPLATE, fake.root / "report/index.html")
    return fake.root / "report"


def shown(browser: Chrome, query: str) -> int:
    return browser.js(f"[...document.querySelectorAll({json.dumps(query)})].filter(part => !({HIDDEN})(part)).length")


def focus(browser: Chrome, query: str) -> None:
    browser.js(f"document.querySelector({json.dumps(query)}).focus()")


def test_papers_are_found_by_words_axes_and_verdicts(report, browser):
    browser.open((report / "index.html").as_uri())
    assert shown(browser, ".matrix tbody tr") == 2
    browser.press("/", *"control variate")  # of a claim and of the title of one paper
    assert browser.js("find.elements.words.value") == "control variate"
    assert shown(browser, ".matrix tbody tr") == 1 and "1 of 2 papers" in browser.js(
        "find.textContent + find.querySelector('output').value"
    )
    focus(browser, "#find button")
    browser.press("Enter")
    browser.js("new Promise(done => setTimeout(done, 50))")
    assert shown(browser, ".matrix tbody tr") == 2
    focus(browser, "#find input[value=does-not-hold]")
    browser.press(" ")
    assert browser.js(
        "[...document.querySelectorAll('.matrix tbody tr')].filter(r => !r.hidden).map(r => r.querySelector('b').textContent)"
    ) == ["vopd"]


def test_a_claim_leads_to_its_line_and_back(report, browser):
    browser.open((report / "index.html").as_uri())
    focus(browser, "a.claim[href$='#claim-worse']")
    browser.events.clear()
    browser.press("Enter")
    browser.wait("Page.loadEventFired")
    assert browser.js("location.pathname + location.hash").endswith("/papers/vopd.html#claim-worse")
    assert browser.js("document.querySelector('tr:target b').textContent") == "worse"
    focus(browser, "nav a")
    browser.events.clear()
    browser.press("Enter")
    browser.wait("Page.loadEventFired")
    assert browser.js("location.pathname").endswith("/report/index.html")


def test_models_are_shown_and_hidden_everywhere(report, browser):
    browser.open((report / "papers/vopd.html").as_uri())
    everywhere = [f"{place} [data-v=topk]" for place in (".results", ".charts.wide", ".samples li", ".curves .chart")]
    everywhere = [query.replace(".samples li [", ".samples li[") for query in everywhere]
    before = [shown(browser, query) for query in everywhere]
    assert all(before)
    focus(browser, ".chip[value=topk]")
    browser.press("Enter")
    assert [shown(browser, query) for query in everywhere] == [0] * 4
    assert shown(browser, ".results tbody tr") == shown(browser, ".chip") - 1
    browser.press("/", *"vopd")
    assert browser.js("models.querySelector('output').value").startswith("1 of ")
    assert browser.js("[...document.querySelectorAll('.results tbody tr:not(.off)')].map(row => row.dataset.v)") == ["vopd"]


def test_a_line_is_brought_out_and_folded_places_open(report, browser):
    browser.open((report / "papers/vopd.html").as_uri())
    browser.js("document.querySelector('.curves .legend button').click()")
    faint = "[...document.querySelectorAll('#against .chart g')].filter(g => getComputedStyle(g).opacity < .5).length"
    browser.js("new Promise(done => setTimeout(done, 300))")
    assert 0 < browser.js(faint) < shown(browser, "#against .chart g")
    browser.js("document.querySelector('.results a').click()")
    assert browser.js("new Promise(done => setTimeout(() => done(provenance.open), 50))")


def test_tokens_by_keyboard(report, browser):
    browser.open((report / "papers/vopd.html").as_uri())
    assert shown(browser, ".response") == 2 and browser.js("pick.elements.step.value") == "40"
    data = browser.js("JSON.parse(document.getElementById('token-data').textContent).rows")
    wanted = [row["columns"]["log_ratio"] for row in data[browser.js("pick.elements.variant.value")] if row["step"] == 40]
    focus(browser, "#pick [name=column]")
    browser.press("Tab")
    assert browser.js("document.activeElement.getAttribute('role')") == "listbox"
    browser.press("ArrowRight")
    said = browser.js("document.getElementById('token').textContent").replace("−", "-")
    assert 'Token 2 of 4 "w"' in said and f"Log ratio {float(f'{wanted[0][1]:.3g}'):g}" in said and "Weight 1" in said
    browser.press("End")
    assert 'Token 4 of 4 "<eos>"' in browser.js("document.getElementById('token').textContent")
    chosen = browser.js("document.getElementById(document.activeElement.getAttribute('aria-activedescendant')).className")
    assert chosen == "masked"
    colours = browser.js(
        "[...document.querySelectorAll('.response [role=option]')].map(t => getComputedStyle(t).backgroundColor)"
    )
    assert len(set(colours)) > 4  # by sign and size
    browser.js("pick.elements.variant.value = 'jsd'; pick.elements.variant.dispatchEvent(new Event('input', {bubbles: true}))")
    label = browser.js("document.querySelector('.response [role=option]').getAttribute('aria-label')").replace("−", "-")
    first = next(row for row in data["jsd"] if row["step"] == 40)["columns"]["log_ratio"][0]
    assert label == f"t Log ratio {float(f'{first:.3g}'):g}"


@pytest.mark.parametrize("page", ["index.html", "papers/vopd.html"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(report, browser, axe, page, scheme):
    browser.colours(scheme)
    browser.open((report / page).as_uri())
    browser.js("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert_accessible(browser, axe)


def test_prints_without_what_only_a_screen_has(report, browser):
    browser.open((report / "papers/vopd.html").as_uri())
    browser.send("Emulation.setEmulatedMedia", media="print")
    browser.js("dispatchEvent(new Event('beforeprint'))")
    assert shown(browser, ".filter, nav") == 0 and browser.js(
        "[...document.querySelectorAll('details')].every(part => part.open)"
    )
