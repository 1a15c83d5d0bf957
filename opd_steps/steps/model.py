"""The model step: weights to start from, as their family makes them."""

from __future__ import annotations

from opd_steps.config import plugs
from opd_steps.steps._main import main
from opd_steps.store.artifacts import Job


def model(job: Job) -> None:
    """Publish what the family makes of the options, and which family it is: every node that reads this model asks it."""
    family = job.options["family"]
    facts = plugs.load("models/families", family).make(job)
    job.publish({}, {"family": family} | facts)


if __name__ == "__main__":
    main(model)
