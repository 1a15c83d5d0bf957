"""What the steps share that run models: a parent as a policy of its family or as a pool of its world, and whether two policies compare."""

from __future__ import annotations

import torch

from opd_steps.config import plugs
from opd_steps.errors import UserError
from opd_steps.models.families import Family
from opd_steps.models.numerics import Numerics
from opd_steps.nouns.policy import Policy
from opd_steps.nouns.task import Pool
from opd_steps.store.artifacts import Job
from opd_steps.store.fingerprint import digest


def family(job: Job, role: str) -> Family:
    """The family of a parent's model, as its manifest names it."""
    return plugs.load("models/families", job.manifests[role]["facts"]["family"])


def load_policy(
    job: Job, role: str, sampling: dict | None = None, batch: int = 256, train: bool = False, numerics: Numerics | None = None
) -> Policy:
    """The model of a parent as a policy; frozen (no gradient, eval mode) unless `train`. `numerics`: instead of the node's."""
    torch.manual_seed(0)  # nothing here draws from it; a library that does is at least repeatable
    numerics = numerics or (Numerics.trained if train else Numerics.frozen)(job.options)
    return family(job, role).policy(job.path(role), numerics=numerics, sampling=sampling, batch=batch, train=train)


def load_pool(job: Job, split: str, policy: Policy, limit: int = 0) -> Pool:
    """A split of the parent `data` as its world shows it to a policy; its first `limit` contexts, 0 = all."""
    world = plugs.load("tasks/worlds", job.manifests["data"]["facts"]["task"])
    return world.pool(job.path("data"), split, policy, limit)


def row_room(job: Job, answer: int) -> int:
    """Tokens behind the prompts of the parent `data` that there may be where a policy decides on at most `answer`."""
    return plugs.load("tasks/worlds", job.manifests["data"]["facts"]["task"]).room(answer)


def weights_id(job: Job, role: str) -> str:
    """Digest of the weight files of the model that a parent, or the part of it that is read, holds, wherever they lie."""
    manifest, part = job.manifests[role], job.parts[role]
    weights, place = manifest["facts"].get("weights"), f"parts/{part}/" if part else ""
    if not weights:
        mine = [name for name in manifest["files"] if name.startswith(place or "parts/") == bool(part)]
        weights = {n.removeprefix(place): manifest["files"][n] for n in mine if n.endswith(".safetensors")}
    return digest({name: entry["sha256"] for name, entry in weights.items()} or manifest["facts"])


def require_same(policy: Policy, other: Policy, job: Job, role: str) -> None:
    """Distillation compares distributions over the same decisions; anything else is refused."""
    policy.family.require_same(policy, other, str(job.path(role)), role)


def require_made_with(policy: Policy, job: Job, role: str, whose: str) -> None:
    """Raises UserError unless the rows of the parent `role` were made in the language of `policy`, that of the parent `whose`."""
    made = job.manifests[role]["facts"]
    for name, value in policy.family.identity(policy).items():
        if made.get(name) != value:
            raise UserError(str(job.path(whose)), f"the {whose}'s {name} is not the one that the {role} were written with")
