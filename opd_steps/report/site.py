"""The report's pages as text: one of a paper alone; of several an overview, and a page for each. Equal results give equal bytes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import jinja2
import yaml
from markupsafe import Markup

from opd_steps.errors import UserError
from opd_steps.findings.claims import MIN_SEEDS, VERDICTS
from opd_steps.findings.multiplicity import chance
from opd_steps.findings.results import Plan
from opd_steps.report.axes import DARK, LIGHT, number
from opd_steps.report.comparison import short
from opd_steps.report.page import AXES, pairs, paper

INDEX, PAPERS = "index.html", "papers"


def render(plan: Plan, claims: dict[str, list[dict]], folder: Path) -> dict[str, str]:
    """Each page by its file below results/report/, from the templates of `folder`; raises UserError for a broken one of these."""
    try:
        captions = yaml.safe_load((folder / "captions.yaml").read_text())
        everyone = [claim for found in claims.values() for claim in found]
        counts = Counter(c["direction"]["verdict"] for c in everyone)
        shared = {
            "root": plan.root,
            "captions": captions,
            "colours": list(zip(LIGHT, DARK, strict=True)),
            "verdicts": [(name, counts[name]) for name in VERDICTS],
            "chance": chance(everyone),
            "pairs": pairs(everyone),
            "min_seeds": MIN_SEEDS,
        }
        templates = _environment(folder)
        draw = lambda template, **values: templates.get_template(template).render(shared | values)
        if len(plan.papers) == 1:
            ((name, found),) = claims.items()
            return {INDEX: draw("paper.html.j2", paper=paper(plan, name, found, captions), home="", papers=1)}
        pages, rows = {}, []
        for name, found in claims.items():
            values = paper(plan, name, found, captions)
            pages[f"{PAPERS}/{name}.html"] = draw("paper.html.j2", paper=values, home=f"../{INDEX}", papers=len(claims))
            rows.append({key: values[key] for key in _OVERVIEW})
        axes = {axis: sorted({row["axes"][axis] for row in rows if axis in row["axes"]}) for axis in AXES}
        return pages | {INDEX: draw("index.html.j2", papers=rows, axes=axes, folder=PAPERS, home="")}
    except (OSError, yaml.YAMLError, jinja2.TemplateError) as error:
        line = getattr(error, "lineno", None)
        raise UserError(f"{folder}{f', line {line}' if line else ''}", f"cannot build the report from it: {error}") from None


_OVERVIEW = ("name", "title", "links", "axes", "claims", "counts", "pairs")


def _environment(folder: Path) -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"number": number, "short": short, "p": _p_value, "slug": _slug, "data": _data}
    return made


def _p_value(p: float | None) -> str:
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _slug(text: str) -> str:
    return text.replace(" ", "-")


def _data(value: object) -> Markup:
    """JSON for a script element, in which nothing ends the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))
