"""The documentation as a site: `python -m tests.site build/docs` (`make docs`).

docs/*.md and the README stand on it as they are, with their links turned (links.py) and their Mermaid drawn (pictures.py). Made from the
repository's own files are a card for each paper (cards.py), a page for each group of plugs (plugs.py) and one of the kinds (kinds.py).
pages.py gathers them in one folder, of which Sphinx makes HTML (conf.py); each of its warnings is an error.
"""
