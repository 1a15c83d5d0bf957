"""What a run will cost, by earlier results of the same kinds."""

from __future__ import annotations

from types import SimpleNamespace

from opd_steps.graph.forecast import forecast
from opd_steps.store.files import write_json


def jobs(kinds: dict[str, int]) -> list:
    return [
        (SimpleNamespace(kind=k, path=lambda seed, k=k, i=i: f"p/{k}/n{i}/seed{seed}"), 0)
        for k, n in kinds.items()
        for i in range(n)
    ]


def cost(results, path: str, seconds: float) -> None:
    (results / path).parent.mkdir(parents=True, exist_ok=True)
    write_json(results / f"{path}.timing.json", {"cpu_s": seconds})


def test_medians_of_what_is_there(tmp_path):
    for i, seconds in enumerate((10, 40, 30)):
        cost(tmp_path, f"p/opd/n{i}/seed0", seconds)
    all_jobs = jobs({"opd": 5, "evaluate": 2, "sft": 1})
    missing = {node.path(seed) for node, seed in all_jobs} - {f"p/opd/n{i}/seed0" for i in range(3)}
    said = forecast(tmp_path, all_jobs, missing)
    assert (
        said == "5 nodes to be made: 2 opd at 30 s, 2 evaluate, 1 sft; about 1.0 CPU min by earlier ones, besides evaluate, sft"
    )


def test_nothing_is_there_and_nothing_is_due(tmp_path):
    all_jobs = jobs({"opd": 2})
    missing = {node.path(seed) for node, seed in all_jobs}
    assert forecast(tmp_path, all_jobs, missing) == "2 nodes to be made: 2 opd; none of a kind that ran before"
    assert forecast(tmp_path, all_jobs, set()) == ""
    (tmp_path / "p/opd/n0").mkdir(parents=True)
    (tmp_path / "p/opd/n0/seed0.timing.json").write_text("{")
    assert forecast(tmp_path, jobs({"opd": 3}), {"p/opd/n1/seed0", "p/opd/n2/seed0"}).endswith("none of a kind that ran before")
