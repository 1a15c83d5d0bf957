"""How many tokens rows with pictures have, before anybody looks at one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from opd_steps.config import plugs
from opd_steps.errors import UserError
from opd_steps.store.artifacts import read_manifest
from opd_steps.tasks.render import response_ids

CROP = "crop"  # the one plug of teachers/contexts that shows another picture in the prompt's place


def longest_seen(data: Path, reading: Any, split: str, column: str = "", limit: int = 0, context: str = "") -> tuple[int, str]:
    """(tokens of the longest row, its place), as tasks.audit's `longest`; `reading`: of the family of the models that read them.

    Raises UserError for a row whose picture is not there, and for one without what `column` or `context` names.
    """
    pool = plugs.load("tasks/worlds", read_manifest(data)["facts"]["task"]).pool(data, split, reading, limit)
    view, most = CROP if context and json.loads(context)["name"] == CROP else "", (0, "")
    for i, row in enumerate(pool.rows):
        where = f"{data / split}.jsonl:{i + 1}"
        if column and column not in row:
            raise UserError(where, f"no column '{column}'; found {', '.join(row)}")
        try:
            count = len(reading.tokens(pool.sized(i, view)))
        except UserError as error:
            raise UserError(where, f"{error.where}: {error.message}") from None
        count += len(response_ids(reading.tokenizer, row[column])) if column else 0
        most = max(most, (count, where), key=lambda pair: pair[0])
    return most
