"""The objective of a step: streams over student, teacher and reference, aggregated with constants of the whole step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from opd_steps.config.needs import terms
from opd_steps.loop.chunked import chunked_sum
from opd_steps.nouns.dist import Categorical, Recorded, StepDist
from opd_steps.nouns.policy import Policy, Teacher
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.aggregate import weights_N
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.stream import Moment, Stream, build
from opd_steps.process import ranks

NEEDS = ("none", "sampled", "topk", "full")


@dataclass
class Objective:
    """sum over streams of Agg_N( coef * weight_N * estimate_N ), each over the rows that it looks at."""

    streams: tuple[Stream, ...]
    aggregate: str
    window: int = 0  # generation budget in decisions, for window_mean

    @classmethod
    def from_method(cls, method: dict, window: int) -> Objective:
        """From checked options of graph.kinds.Method (the method's own stream first, then those of `add`)."""
        return cls(tuple(build(row) for row in terms(method)), method["aggregate"], window)

    def needs(self, whom: str) -> str:
        """The most that any stream must know of "teacher" or "reference": none, sampled, topk or full."""
        found = [s.teacher_need for s in self.streams if s.against == whom]
        if whom == "reference":
            found += [s.reference_need for s in self.streams]
        return max(found, key=NEEDS.index, default="none")

    def backward(
        self,
        policy: Policy,
        batch: Trajectory,
        columns: dict[str, Tensor],
        teacher: Teacher | None = None,
        reference: Teacher | None = None,
        micro_batch: int = 64,
        moment: Moment | None = None,
    ) -> dict[str, float]:
        """Accumulate the gradient of the whole batch, `micro_batch` rows at a time, and return mean statistics.

        `columns`: per-row tensors [B]; "outcome" is the outcome advantage. Teacher and reference are never differentiated.
        Splitting the batch differently, also over ranks, changes no gradient: constants are those of the whole batch.
        """
        others = {"teacher": teacher, "reference": reference}
        parts = lambda: self._parts(policy, batch, columns, others, micro_batch)
        terms, figures = self._terms(parts, batch, moment or Moment(window=self.window))
        sums, worst = defaultdict(float), defaultdict(float)
        for student, evidence, at in parts():
            if at is None:
                _idle(student, evidence).backward()
                continue
            terms_here = [t.cut(at, at + len(student), evidence.action_N.device) for t in terms]

            def chunk_loss(q: StepDist, i: int, j: int, evidence=evidence, terms_here=terms_here) -> Tensor:
                seen, loss = evidence.chunk(i, j), 0.0
                raw_N = seen.sampler_logp_N  # nan where nobody sampled
                if raw_N is not None:
                    asked_N = ~raw_N.isnan()
                    seen = replace(seen, sampler_logp_N=raw_N.where(asked_N, 0.0))
                for k, (stream, term) in enumerate(zip(self.streams, terms_here, strict=True)):
                    part = term.cut(i, j)
                    loss_N, found = stream.loss(q, replace(stream.view(seen), shift_N=part.shift_N))
                    loss = loss + (part.scale_N * loss_N).sum()
                    prefix = "" if k == 0 else f"add{k - 1}_"
                    for name, value_N in found.items():
                        sums[prefix + name] += float((value_N.detach() * part.member_N).sum()) / term.tokens
                with torch.no_grad():
                    sums["entropy"] += float(q.entropy().sum()) / len(terms[0].member_N)
                    if raw_N is not None:  # engine mismatch when fresh, drift when stale
                        gap_N = (q.logp(seen.action_N) - raw_N).where(asked_N, 0.0)
                        sums["sampler_gap"] += float(gap_N.abs().sum()) / len(terms[0].member_N)
                        sums["sampler_kl"] -= float(gap_N.sum()) / len(terms[0].member_N)
                        worst["sampler_gap_max"] = max(worst["sampler_gap_max"], float(gap_N.abs().max()))
                return loss

            loss = chunked_sum(student, chunk_loss)
            loss.backward()
            sums["loss"] += float(loss.detach())
        return ranks.combined(sums, sum) | ranks.combined(worst, max) | figures

    def _parts(self, policy, batch, columns, others, micro_batch) -> Iterator[tuple[StepDist, Evidence, int | None]]:
        """(student's distributions, evidence, first decision point) of `micro_batch` rows at a time; of None with a row that does not
        count, where other ranks have one more."""
        for index in ranks.micro_batches(len(batch), micro_batch):
            at = int(batch.length_B[: index.start].sum())
            if index.start == index.stop:
                index, at = slice(0, 1), None
            part = batch.rows(index)
            with torch.no_grad():
                known = {whom: other.dist(part, whom) for whom, other in others.items() if self.needs(whom) != "none"}
            student = policy.dist(part, "student")
            device = student.hidden_ND.device if hasattr(student, "hidden_ND") else None
            known = {
                whom: dist.to(device) if isinstance(dist, (Recorded, Categorical)) else dist for whom, dist in known.items()
            }
            yield (
                student,
                Evidence(
                    action_N=part.action_N.to(device),
                    sampler_logp_N=None if part.logp is None else part.logp_N.to(device),
                    outcome_N=columns["outcome"][index][part.owner_N].to(device) if "outcome" in columns else None,
                    step_N=part.step_N.to(device),
                    owner_N=part.owner_N.to(device),
                    **known,
                ),
                at,
            )

    def _terms(self, parts, batch: Trajectory, moment: Moment) -> tuple[list[_Term], dict[str, float]]:
        """Per stream: the weight of every decision point, with what wide plugs make of the whole batch."""
        found = self._survey(parts) if any(p.SURVEY for s in self.streams for p in s.wide) else None
        terms, figures = [], {}
        for k, stream in enumerate(self.streams):
            picks = _rows_of(stream, batch)
            if not picks:  # a minibatch without any of them
                none_N = torch.zeros(len(batch.action_N))
                terms.append(_Term(none_N, none_N.bool(), None, 1))
                continue
            rows = batch if len(picks) == len(batch) else batch.rows(picks)
            tokens = int(rows.length_B.sum())
            scale_N = weights_N(self.aggregate, rows.length_B, len(rows), tokens, self.window)
            member_N = torch.isin(batch.owner_N, torch.tensor(picks))
            shift_N = None
            if stream.wide:
                own = {key: value_N[member_N] for key, value_N in found[k].items()} if found else {}
                weight_N, shift_N, more = stream.over_batch(rows, own, moment)
                scale_N = scale_N * weight_N
                figures |= {("" if k == 0 else f"add{k - 1}_") + name: value for name, value in more.items()}
            spread = lambda value_N, member_N=member_N: torch.zeros(len(member_N)).masked_scatter(member_N, value_N)
            terms.append(_Term(spread(scale_N), member_N, None if shift_N is None else spread(shift_N), max(tokens, 1)))
        return terms, figures

    @torch.no_grad()
    def _survey(self, parts) -> list[dict]:
        """What wide plugs measure, per stream, over all decision points of the batch; on the CPU."""
        columns: list[dict] = [defaultdict(list) for _ in self.streams]
        for student, evidence, at in parts():
            if at is None:
                continue

            def read(q: StepDist, i: int, j: int, evidence=evidence) -> Tensor:
                seen = evidence.chunk(i, j)
                for stream, into in zip(self.streams, columns, strict=True):
                    for key, value_N in stream.survey(q, stream.view(seen)).items():
                        into[key].append(value_N.float().cpu())
                return torch.zeros(())

            chunked_sum(student, read)
        found = ranks.gather([dict(into) for into in columns])
        return [
            {key: torch.cat([chunk for mine in found for chunk in mine[k].get(key, ())]) for key in found[0][k]}
            for k in range(len(columns))
        ]


def _idle(student: StepDist, evidence: Evidence) -> Tensor:
    """0, with a gradient of 0 on all that a loss reaches."""
    return chunked_sum(student, lambda q, i, j: 0 * q.logp(evidence.action_N[i:j]).sum())


@dataclass(frozen=True)
class _Term:
    """One stream's view of a batch: weight, membership and added advantage of every decision point, and its tokens."""

    scale_N: Tensor
    member_N: Tensor
    shift_N: Tensor | None
    tokens: int

    def cut(self, start: int, stop: int, device: torch.device | None = None) -> _Term:
        take = lambda t: None if t is None else t[start:stop].to(device or t.device)
        return _Term(take(self.scale_N), take(self.member_N), take(self.shift_N), self.tokens)


def _rows_of(stream: Stream, batch: Trajectory) -> list[int]:
    sources = batch.extra.get("source", ["prefix"] * len(batch))
    return [i for i, source in enumerate(sources) if source == stream.rows]
