"""The merged model: the weighted mean of the parameters of several models of one shape."""

from __future__ import annotations

import torch

from opd_steps.errors import UserError
from opd_steps.models.families import described
from opd_steps.steps._main import main
from opd_steps.steps._models import load_policy, require_same
from opd_steps.store.artifacts import Job


@torch.no_grad()
def run(job: Job) -> None:
    """Publish the mean. Raises UserError for models of other shapes or another language than the first.

    merge/spread   sqrt of sum_i w_i |theta_i - theta|^2 / sum_i w_i over |theta|: how far apart the merged are, 0 for equal ones
    """
    roles = [f"models.{i}" for i in range(len(job.options["models"]))]
    shares = job.options["shares"] or [1.0] * len(roles)
    policy = load_policy(job, roles[0])
    mean = dict(policy.model.named_parameters())
    summed = {name: value.double() * shares[0] for name, value in mean.items()}
    squares = shares[0] * _square(mean)
    for role, share in zip(roles[1:], shares[1:], strict=True):
        other = load_policy(job, role)
        require_same(policy, other, job, role)
        theirs = dict(other.model.named_parameters())
        if {n: p.shape for n, p in theirs.items()} != {n: p.shape for n, p in mean.items()}:
            raise UserError(
                str(job.path(role)), f"its parameters have other names or shapes than those of {job.path(roles[0])}"
            )
        squares += share * _square(theirs)
        for name, value in theirs.items():
            summed[name] += share * value.double()
    for name, value in mean.items():
        value.copy_(summed[name] / sum(shares))
    square = sum(float(value.square().sum()) for value in summed.values()) / sum(shares) ** 2
    spread = (max(squares / sum(shares) - square, 0.0) / square) ** 0.5
    policy.family.save(policy, job.stage)
    traces = {job.manifests[role]["facts"].get("traces_from") for role in roles}
    same = traces.pop() if len(traces) == 1 else None
    job.publish({"merge/spread": spread}, described(policy) | {"traces_from": same})


def _square(parameters: dict[str, torch.Tensor]) -> float:
    """Sum of the squares of all weights."""
    return sum(float(value.double().square().sum()) for value in parameters.values())


if __name__ == "__main__":
    main(run)
