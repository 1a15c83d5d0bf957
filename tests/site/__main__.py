"""Builds the site: `python -m tests.site build/docs`; the first page is build/docs/index.html. Any warning ends it with status 1."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

from tests.site.links import ROOT
from tests.site.pages import assemble

_LOADED = re.compile(r"<(?:script|img|iframe)[^>]*\bsrc=.https?:[^>]*>|<link[^>]*\bhref=.https?:[^>]*>")


def main(folder: Path) -> int:
    os.chdir(ROOT)
    from sphinx.cmd.build import main as sphinx  # of envs/lock-docs.txt

    pages = folder.parent / f"{folder.name}-pages"
    assemble(pages)
    strict, anew = ["-W", "--keep-going", "-q"], ["-E", "-a", "-j", "2"]
    places = ["-c", str(Path(__file__).parent), "-d", f"{pages}-read", str(pages), str(folder)]
    status = sphinx([*strict, *anew, *places])
    for page in folder.rglob("*.html"):
        for found in _LOADED.findall(page.read_text()):
            print(f"{page}: loads from the network: {found}", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    sys.exit(main(parser.parse_args().folder.absolute()))
