"""The model of a subspace: gradients of a few solved examples at keys and values, a projector of each, the projectors folded in."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from opd_steps.errors import UserError
from opd_steps.loop.chunked import chunked_sum
from opd_steps.models.families import described
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.models.subspace import energy, fold, main_directions, projections, random_directions
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.steps._main import main
from opd_steps.steps._models import load_policy, load_pool
from opd_steps.store.artifacts import Job
from opd_steps.tasks.behind import behind


def run(job: Job) -> None:
    """Publish the projected model, and the bases of its subspaces beside it (projectors.safetensors, [d_kv, rank] each).

    project/energy   mean share of the gradients' squared length in the subspace, over layers, keys and values
    project/loss     the calibration loss per token of the spans, nats, before the projection
    """
    options, policy = job.options, load_policy(job, "model")
    rows = load_pool(job, "train", policy, options["examples"]).written(options["column"])
    member_N = behind(rows, policy.tokenizer, options["after"])
    linears = projections(policy.model, options["layers"])
    loss, gradients = activation_gradients(policy, rows, member_N, linears, options["micro_batch"])
    bases, energies = {}, []
    for name, linear in linears.items():
        width = linear.out_features
        rank = options["rank"] or width // 2
        if rank > width:
            raise UserError("rank", f"expected at most {width}, the width of {name}; found {rank}")
        gradient = options["subspace"] == "gradient"
        basis_DR = main_directions(gradients[name], rank) if gradient else random_directions(width, rank, job.seed, name)
        energies.append(energy(gradients[name], basis_DR))
        bases[name] = basis_DR.float()
        fold(linear, basis_DR)
    policy.family.save(policy, job.stage)
    save_file(bases, job.stage / "projectors.safetensors")
    traces = job.manifests["model"]["facts"].get("traces_from")
    facts = described(policy) | {"traces_from": traces}
    job.publish({"project/energy": fmean(energies), "project/loss": loss / int(member_N.sum())}, facts)


def activation_gradients(
    policy: LMPolicy, rows: Trajectory, member_N: Tensor, linears: Mapping[str, nn.Linear], micro_batch: int
) -> tuple[float, dict[str, Tensor]]:
    """(L, dL/doutput of each linear [positions, D] on the CPU), L = - sum of log q over the decisions of `member_N`.

    All positions of all rows are rows of a gradient, prompts too; those of padding are 0, which changes no direction.
    """
    found: dict[str, list[Tensor]] = {name: [] for name in linears}
    total, start = 0.0, 0
    for row in range(0, len(rows), micro_batch):
        part = rows.rows(slice(row, row + micro_batch))
        action_N = part.action_N.to(policy.device)
        weight_N = member_N[start : start + len(action_N)].to(policy.device)
        start += len(action_N)
        probes: dict[str, Tensor] = {}

        def probe(name: str, output: Tensor, probes=probes) -> Tensor:
            """0 added to the output: its gradient is the output's."""
            probes[name] = torch.zeros_like(output, requires_grad=True)
            return output + probes[name]

        hooks = [
            linear.register_forward_hook(lambda _, __, output, name=name: probe(name, output))
            for name, linear in linears.items()
        ]
        loss_of = lambda q, i, j, a=action_N, w=weight_N: -(q.logp(a[i:j]) * w[i:j]).sum()
        try:
            loss = chunked_sum(policy.dist(part), loss_of)
        finally:
            for hook in hooks:
                hook.remove()
        for name, gradient in zip(probes, torch.autograd.grad(loss, list(probes.values())), strict=True):
            found[name].append(gradient.detach().flatten(0, -2).float().cpu())
        total += float(loss.detach())
    return total, {name: torch.cat(parts) for name, parts in found.items()}


if __name__ == "__main__":
    main(run)
