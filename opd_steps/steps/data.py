"""The data step: a task's splits, as its world writes them."""

from __future__ import annotations

from opd_steps.config import plugs
from opd_steps.steps._main import main
from opd_steps.store.artifacts import Job


def data(job: Job) -> None:
    """Publish what the world writes, and which world it is: every node that reads the data asks it."""
    task = job.options["task"]
    facts = plugs.load("tasks/worlds", task).write(job)
    job.publish({f"rows/{split}": count for split, count in facts["splits"].items()}, {"task": task} | facts)


if __name__ == "__main__":
    main(data)
