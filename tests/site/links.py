"""Where a link of a repository's page leads on the site."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from opd_steps.config.plugs import PACKAGE

ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"(!?)\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")
_FENCED = re.compile(r"(^```.*?^```$)", re.S | re.M)


def turned(text: str, folder: Path, place: Callable[[Path], str]) -> str:
    """`text` of a page in `folder` of the repository, with links to the site's pages of the files that it names (`place`).

    Raises ValueError for a link to what is not there.
    """

    def turn(found: re.Match) -> str:
        file = Path(os.path.normpath(folder / found[2]))
        if not file.is_file():
            raise ValueError(f"{folder}: a link to {found[2]}, which is no file of the repository")
        page = place(file)
        return f"{found[1]}]({page}{'' if '#' in page else found[3] or ''})"

    return "".join(part if part.startswith("```") else _LINK.sub(turn, part) for part in _FENCED.split(text))


def place(file: Path) -> str:
    """The page of a file of the repository, as Sphinx reads it: from the site's root."""
    inside = file.relative_to(ROOT)
    if inside.parts[0] == "docs":
        return f"/{inside.relative_to('docs')}"
    if inside == Path("README.md"):
        return "/index.md"
    if inside.parent == Path("workflow/papers"):
        return f"/papers/{inside.stem}.md"
    if inside.parent == Path("opd_steps/graph/kinds"):
        return f"/kinds.md#{inside.stem}"
    if file.is_relative_to(PACKAGE) and is_plug(file):
        return of_plug(str(inside.parent.relative_to("opd_steps")), inside.stem)
    return f"/files/{inside}.md"


def is_plug(file: Path) -> bool:
    """Whether a page of plugs shows a file of the package."""
    from tests.options_table import groups

    return str(file.parent.relative_to(PACKAGE)) in groups() and not file.name.startswith("_")


def of_plug(group: str, name: str = "") -> str:
    return f"/plugs/{group}.md" + f"#{name}" * bool(name)


def to_plugs(text: str) -> str:
    """`text` with the groups of plugs that tables of options name as links to their pages."""
    return re.sub(r"(\| plugs?: )([\w/]+) \|", lambda found: f"{found[1]}[{found[2]}]({of_plug(found[2])}) |", text)
