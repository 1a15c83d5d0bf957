"""All pages of the site in one folder: those of the repository, and those that are made from its files."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tests.site import cards, kinds, pictures, plugs
from tests.site.links import ROOT, place, to_plugs, turned
from tests.site.text import toctree, verbatim

DOCS = ROOT / "docs"
ORDER = {
    "Use it": "concepts report options faq data verifiers tune watching precision parallel scale robots "
    "plan fit tracking slurm vllm cut_off smollm2",
    "Papers": "papers claims results estimators",
    "Add to it": "extend architecture kinds plugs code speed",
}
"""The side's order of the pages that are there. One of docs/ that is not named here comes under "More"."""
LANGUAGES = {".py": "python", ".yaml": "yaml", ".md": "markdown"}


def assemble(folder: Path) -> None:
    """Write the pages anew. Raises ValueError for a link of theirs that leads nowhere."""
    shutil.rmtree(folder, ignore_errors=True)
    written = {f"{path.stem}.md": _read(path, folder) for path in sorted(DOCS.glob("*.md"))}
    found = cards.Cards()
    made = {"kinds.md": kinds.page()} | plugs.pages(found.papers_of()) | cards.pages(found)
    if both := written.keys() & made.keys():
        raise ValueError(f"docs/ holds a page of a name that is made: {', '.join(both)}")
    written["papers.md"] += "\n" + toctree(*(f"papers/{name}" for name in cards.NAMES))
    index = _read(ROOT / "README.md", folder) + "\n" + _side([*written, *made])
    pages = {"index.md": index} | written | made
    for name, text in (pages | _files(pages)).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(to_plugs(text))
    shutil.copytree(DOCS / "images", folder / "images", dirs_exist_ok=True)


def _read(path: Path, folder: Path) -> str:
    return pictures.drawn(turned(path.read_text(), path.parent, place), path.stem, folder)


def _side(names: list[str]) -> str:
    """The table of contents, on the first page."""
    there = sorted(Path(name).stem for name in names if "/" not in name)
    groups = {title: [page for page in pages.split() if page in there] for title, pages in ORDER.items()}
    groups["More"] = [page for page in there if page not in " ".join(ORDER.values()).split()]
    return "\n".join(
        toctree(*pages).replace(":hidden:", f":hidden:\n:caption: {title}") for title, pages in groups.items() if pages
    )


def _files(pages: dict[str, str]) -> dict[str, str]:
    """A page for each other file of the repository to which pages lead."""
    found = {}
    for name in sorted({file for text in pages.values() for file in re.findall(r"\]\(/files/([^)]+)\.md\)", text)}):
        text = (ROOT / name).read_text()
        found[f"files/{name}.md"] = (
            f"---\norphan: true\n---\n\n# {name}\n\n{verbatim(text, LANGUAGES.get(Path(name).suffix, 'text'))}"
        )
    return found
