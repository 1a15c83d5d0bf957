"""Mermaid diagrams as SVG files: drawn when the site is built, so that no page needs a script or the network."""

from __future__ import annotations

import re
from pathlib import Path

_MERMAID = re.compile(r"^```mermaid\n(.*?)^```$", re.S | re.M)
THEMES = {"only-light": "default", "only-dark": "dark"}  # by Furo's classes


def drawn(text: str, name: str, folder: Path) -> str:
    """`text` with an image in place of each diagram; its files go to `folder`/images."""
    count = iter(range(len(text)))

    def image(found: re.Match) -> str:
        n, lines = next(count), []
        for css, theme in THEMES.items():
            file = Path("images") / f"{name}-{n}-{theme}.svg"
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(svg(found[1], theme))
            lines += ["```{image} /" + str(file), f":class: {css}", ":alt: diagram of what the text around it says", "```", ""]
        return "\n".join(lines)

    return _MERMAID.sub(image, text)


def svg(diagram: str, theme: str) -> str:
    """Mermaid's own drawing. Raises an error for what Mermaid does not read."""
    import mermaidx  # of envs/lock-docs.txt

    return mermaidx.render(diagram, theme=theme).svg()
