"""The profiles: what the default one holds is stronger than any other, so it must hold nothing that another sets."""

from __future__ import annotations

from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
read = lambda path: (ROOT / path / "profile.yaml").read_text()


def test_the_default_profile_overrides_nothing():
    default = yaml.safe_load(read("workflow/profiles/default"))
    for other in ("slurm", "workflow/profiles/local"):
        assert default.keys() & yaml.safe_load(read(other)).keys() == set()


def test_every_key_of_the_slurm_profile_is_explained():
    lines = read("slurm").splitlines()
    keys = [(i, line) for i, line in enumerate(lines) if line.split("#")[0].strip()]
    assert len(keys) >= 12
    for i, line in keys:
        assert "# " in line or lines[i - 1].lstrip().startswith("# "), line
