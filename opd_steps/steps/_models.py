"""What the steps share that run models: a parent as a policy of its family or as a pool of its world, and whether two policies compare."""

from __future__ import annotations

import torch

from opd_steps.config import plugs
from opd_steps.errors import UserError
from opd_steps.models.bases import Base, Tuning, weights_digest
from opd_steps.models.families import Family
from opd_steps.models.numerics import Numerics
from opd_steps.nouns.policy import Policy
from opd_steps.nouns.task import Pool
from opd_steps.seeds import derive
from opd_steps.store.artifacts import Job


def family(job: Job, role: str) -> Family:
    """The family of a parent's model, as its manifest names it."""
    return plugs.load("models/families", job.manifests[role]["facts"]["family"])


def load_policy(
    job: Job, role: str, sampling: dict | None = None, batch: int = 256, train: bool = False, numerics: Numerics | None = None
) -> Policy:
    """The model of a parent as a policy; frozen (no gradient, eval mode) unless `train`: then as the node's `tune` says. `numerics`:
    instead of the node's.

    Raises UserError for a family that has no such training.
    """
    torch.manual_seed(0)  # nothing here draws from it; a library that does is at least repeatable
    numerics, found = numerics or (Numerics.trained if train else Numerics.frozen)(job.options), family(job, role)
    how = {"numerics": numerics, "sampling": sampling, "batch": batch, "train": train}
    if train and adapts(job):
        if not found.ADAPTS:
            name = job.manifests[role]["facts"]["family"]["name"]
            raise UserError("tune", f"{job.options['tune']['name']} adapts no {name} model: use full")
        how["tuning"] = _tuning(job, role)
    return found.policy(job.path(role), **how)


def load_sampler(job: Job, role: str) -> Policy:
    """The model of a parent that samples and does nothing else: without weights where an engine does it."""
    engine, sampling, found = job.options["engine"], job.options["sampling"], family(job, role)
    if engine["name"] == "local" or engine["name"] not in found.ENGINES:  # such an engine is refused
        return load_policy(job, role, sampling, engine["batch"])
    return found.policy(job.path(role), numerics=Numerics.frozen(job.options), sampling=sampling, weights=False)


def adapts(job: Job) -> bool:
    """Whether the node trains adapters beside weights that stay."""
    return plugs.constant("tune", job.options["tune"]["name"], "ADAPTS")


def _tuning(job: Job, role: str) -> Tuning:
    base = Base(str(job.parents[role].relative_to(job.results)), job.parts[role], weights_id(job, role))
    return Tuning(plugs.load("tune", job.options["tune"]), derive(job.seed, "tune", role), base)


def load_pool(job: Job, split: str, policy: Policy, limit: int = 0) -> Pool:
    """A split of the parent `data` as its world shows it to a policy; its first `limit` contexts, 0 = all."""
    world = plugs.load("tasks/worlds", job.manifests["data"]["facts"]["task"])
    return world.pool(job.path("data"), split, policy, limit)


def row_room(job: Job, answer: int) -> int:
    """Tokens behind the prompts of the parent `data` that there may be where a policy decides on at most `answer`."""
    return plugs.load("tasks/worlds", job.manifests["data"]["facts"]["task"]).room(answer)


def weights_id(job: Job, role: str) -> str:
    """Digest of the weights of the model that a parent, or the part of it that is read, holds."""
    return weights_digest(job.manifests[role], job.parts[role])


def require_same(policy: Policy, other: Policy, job: Job, role: str) -> None:
    """Distillation compares distributions over the same decisions; anything else is refused."""
    policy.family.require_same(policy, other, str(job.path(role)), role)


def require_made_with(policy: Policy, job: Job, role: str, whose: str) -> None:
    """Raises UserError unless the rows of the parent `role` were made in the language of `policy`, that of the parent `whose`."""
    made = job.manifests[role]["facts"]
    for name, value in policy.family.identity(policy).items():
        if made.get(name) != value:
            raise UserError(str(job.path(whose)), f"the {whose}'s {name} is not the one that the {role} were written with")
