"""The objective of a step: streams over student, teacher and reference, aggregated with constants of the whole step."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from opd_steps.loop.chunked import chunked_sum
from opd_steps.nouns.dist import StepDist
from opd_steps.nouns.policy import Policy, Teacher
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.aggregate import weights_N
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.stream import Stream, build


@dataclass(frozen=True)
class Objective:
    """sum over streams of Agg_N( coef * weight_N * estimate_N )."""

    streams: tuple[Stream, ...]
    against: tuple[str, ...]  # "teacher" or "reference", per stream
    aggregate: str
    window: int = 0  # generation budget in decisions, for window_mean

    @classmethod
    def from_method(cls, method: dict, window: int) -> Objective:
        """From checked options of config.kinds.Method (the method's own stream first, then those of `add`)."""
        rows = [method, *method.get("add", [])]
        return cls(tuple(build(r) for r in rows), tuple(r["against"] for r in rows), method["aggregate"], window)

    def needs(self, whom: str) -> str:
        """The most that any stream must know of "teacher" or "reference": none, sampled, topk or full."""
        order = ("none", "sampled", "topk", "full")
        found = [s.teacher_need for s, a in zip(self.streams, self.against, strict=True) if a == whom]
        return max(found, key=order.index, default="none")

    def backward(
        self,
        policy: Policy,
        batch: Trajectory,
        columns: dict[str, Tensor],
        teacher: Teacher | None = None,
        reference: Teacher | None = None,
        micro_batch: int = 64,
    ) -> dict[str, float]:
        """Accumulate the gradient of the whole batch, `micro_batch` rows at a time, and return mean statistics.

        `columns`: per-row tensors [B]; "outcome" is the outcome advantage. Teacher and reference are never differentiated.
        Splitting the batch differently changes no gradient: constants are those of the whole batch.
        """
        total = {"rows": len(batch), "tokens": int(batch.length_B.sum())}
        sums: dict[str, float] = defaultdict(float)
        for start in range(0, len(batch), micro_batch):
            index = slice(start, start + micro_batch)
            part = batch.rows(index)
            known = {}
            with torch.no_grad():
                for whom, other in (("teacher", teacher), ("reference", reference)):
                    if self.needs(whom) != "none":
                        known[whom] = other.dist(part, whom)
            student = policy.dist(part, "student")
            device = student.hidden_ND.device if hasattr(student, "hidden_ND") else None
            evidence = Evidence(
                action_N=part.action_N.to(device),
                sampler_logp_N=None if part.logp is None else part.logp_N.to(device),
                outcome_N=columns["outcome"][index][part.owner_N].to(device) if "outcome" in columns else None,
                step_N=part.step_N.to(device),
                owner_N=part.owner_N.to(device),
                **known,
            )
            scale_N = weights_N(self.aggregate, part.length_B, total["rows"], total["tokens"], self.window).to(device)

            def chunk_loss(q: StepDist, i: int, j: int, evidence=evidence, scale_N=scale_N) -> Tensor:
                seen, loss = evidence.chunk(i, j), 0.0
                for k, (stream, whom) in enumerate(zip(self.streams, self.against, strict=True)):
                    view = seen if whom == "teacher" else replace(seen, teacher=seen.reference)
                    loss_N, found = stream.loss(q, view)
                    loss = loss + (scale_N[i:j] * loss_N).sum()
                    prefix = "" if k == 0 else f"add{k - 1}_"
                    for name, value_N in found.items():
                        sums[prefix + name] += float(value_N.detach().sum())
                with torch.no_grad():
                    sums["entropy"] += float(q.entropy().sum())
                    if seen.sampler_logp_N is not None:  # engine mismatch when fresh, drift when stale
                        sums["sampler_gap"] += float((q.logp(seen.action_N) - seen.sampler_logp_N).abs().sum())
                return loss

            loss = chunked_sum(student, chunk_loss)
            loss.backward()
            sums["loss"] += float(loss.detach()) * total["tokens"]
        return {name: value / total["tokens"] for name, value in sums.items()}
