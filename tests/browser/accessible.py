"""What axe-core says of a page."""

from __future__ import annotations

from tests.browser.chrome import Chrome


def assert_accessible(browser: Chrome, axe: str) -> None:
    """No serious finding on the page that is open."""
    browser.js(axe)
    found = browser.js("axe.run({preload: false}).then(found => ({bad: found.violations, good: found.passes.length}))")
    serious = [v for v in found["bad"] if v["impact"] in ("serious", "critical")]
    assert [(v["id"], len(v["nodes"]), v["nodes"][0]["html"][:300], v["nodes"][0]["failureSummary"]) for v in serious] == []
    assert found["good"] > 20
