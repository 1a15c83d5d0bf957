"""What each step of a paper really imports: runs every job again, each in a fork that has only the libraries loaded.

    python -m tests.pipeline.loaded smoke          (in a checkout with finished results; it replaces them)

Prints {"kind/node": ["opd_steps/loop/train.py", ...]}: the package's files that were loaded when the step had ended.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

PLAN = """
import sys, json
from opd_steps.graph.checked import checked, wanted
from opd_steps.graph.nodes import Graph
graph = checked(Graph([sys.argv[1]], "tiny"))
print(json.dumps([[n.kind, n.name, n.path(0), n.job_config(n.seed(0)), n.code_json] for n in wanted(graph)]))
"""


def files() -> list[str]:
    """The package's files among the loaded modules, but for those that say nothing."""
    paths = {Path(m.__file__) for n, m in list(sys.modules.items()) if n.split(".")[0] == "opd_steps" and m.__file__}
    return sorted(str(p.relative_to(Path.cwd())) for p in paths if p.stat().st_size)


def run(kind: str, config: str, code: str, out: Path, into: Path) -> None:
    """The child: the step's own command line; it never returns."""
    sys.argv = [kind, "--config", config, "--code", code, "--out", str(out)]
    status = 0
    try:
        runpy.run_module(f"opd_steps.steps.{kind}", run_name="__main__")
    except SystemExit as stop:
        status = int(stop.code or 0)
    into.write_text(json.dumps([f"opd_steps/steps/{kind}.py", *files()]))
    sys.stdout.flush()
    os._exit(status)


def main() -> None:
    plan = json.loads(
        subprocess.run([sys.executable, "-c", PLAN, sys.argv[1]], check=True, capture_output=True, text=True).stdout
    )
    import torch  # noqa: F401
    import transformers  # noqa: F401

    found, into = {}, Path("loaded.json")
    for kind, name, path, config, code in plan:
        out = Path("results") / path / "manifest.json"
        out.unlink()
        if (child := os.fork()) == 0:
            os.dup2(2, 1)
            run(kind, config, code, out, into)
        assert os.waitpid(child, 0)[1] == 0, f"{kind}/{name} failed"
        found[f"{kind}/{name}"] = {"loaded": json.loads(into.read_text()), "code": sorted(json.loads(code))}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
