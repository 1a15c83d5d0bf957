"""Reading GSM8K (arXiv 2110.14168): problems whose answers carry calculator annotations `<<48/2=24>>` and end in `#### 72`."""

from __future__ import annotations

import re

from opd_steps.store.sources import is_there
from opd_steps.tasks.records import Records, from_hub, from_jsonl

ANNOTATION = re.compile(r"<<([^<>=]*)=([^<>=]*)>>")


def load(path: str) -> dict[str, Records]:
    """Train and test of a folder with train.jsonl and test.jsonl, or of a hub id."""
    if is_there(path):
        return from_jsonl(path)
    return from_hub(path, {"train": "train", "test": "test"}, subset="main")
