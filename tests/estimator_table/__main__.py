from __future__ import annotations

from tests.estimator_table.page import PATH, render

PATH.write_text(render())
print(f"wrote {PATH}")
