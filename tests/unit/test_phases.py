"""Where a training's time went: beside the result, never in it."""

from __future__ import annotations

import json

from tests.unit.opd_toys import NODE, run


def test_times_stand_in_timing_json_alone(tmp_path, capsys):
    made = run(tmp_path, steps=3, keep={"early": 2})
    told = json.loads((tmp_path / f"{NODE}.timing.json").read_text())
    assert told["phases_s"].keys() == {"batch", "update", "hooks", "checkpoint"}
    assert all(seconds > 0 for seconds in told["phases_s"].values())
    assert sum(told["phases_s"].values()) < told["wall_s"]
    tokens = sum(json.loads(line)["train/tokens"] for line in made.metrics.splitlines())
    assert told["steps"] == 3 and abs(told["tokens_per_s"] * sum(told["phases_s"].values()) - tokens) < 1e-6 * tokens
    assert b"phases" not in made.metrics and "phases" not in json.dumps(made.manifest)
    (last,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("step 3/3"))
    assert " s a step (" in last and "update " in last and last.endswith(" tokens/s")
