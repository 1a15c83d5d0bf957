"""Each term's view of a batch: which decision points it is about, and how much each of them weighs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from opd_steps.loop.chunked import chunked_sum
from opd_steps.loop.forward import Forward
from opd_steps.nouns.dist import StepDist
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.aggregate import weights_N
from opd_steps.objectives.chunk import Term, prefix
from opd_steps.objectives.stream import Moment, Stream, Wide
from opd_steps.process import ranks


def terms_of(
    streams: Sequence[Stream], aggregate: str, window: int, batch: Trajectory, found: list[dict] | None, moment: Moment
) -> tuple[list[Term], dict[str, float]]:
    """A term for each stream, and figures. `found`: what `survey` measured."""
    terms, figures = [], {}
    for k, stream in enumerate(streams):
        picks = _rows_of(stream, batch)
        if not picks:  # a minibatch without any of them
            none_N = torch.zeros(len(batch.action_N))
            terms.append(Term(none_N, none_N.bool(), None, 1))
            continue
        rows = batch if len(picks) == len(batch) else batch.rows(picks)
        member_N = torch.isin(batch.owner_N, torch.tensor(picks))
        wide = Wide(torch.ones(1))
        if stream.wide:
            own = {key: value_N[member_N] for key, value_N in found[k].items()} if found else {}
            wide = stream.over_batch(rows, own, moment)
            figures |= {prefix(k) + name: value for name, value in wide.figures.items()}
        tokens = int(rows.length_B.sum() if wide.mask_N is None else wide.mask_N.sum())
        scale_N = (
            weights_N(aggregate, rows.length_B, moment.rows or len(rows), max(tokens, 1), window, wide.mask_N) * wide.weight_N
        )
        spread = lambda value_N, member_N=member_N: torch.zeros(len(member_N)).masked_scatter(member_N, value_N)
        shift_N = None if wide.shift_N is None else spread(wide.shift_N)
        counted_N = member_N if wide.mask_N is None else spread(wide.mask_N.float()).bool()
        terms.append(Term(spread(scale_N), counted_N, shift_N, max(tokens, 1)))
    return terms, figures


@torch.no_grad()
def survey(streams: Sequence[Stream], forward: Forward) -> list[dict]:
    """What wide plugs measure, per stream, over all decision points of the batch; on the CPU."""
    columns: list[dict] = [defaultdict(list) for _ in streams]
    for part in forward.first():
        if part.idle:
            continue

        def read(q: StepDist, i: int, j: int, part=part) -> Tensor:
            seen = part.evidence.chunk(i, j)
            for stream, into in zip(streams, columns, strict=True):
                for key, value_N in stream.survey(q, stream.view(seen)).items():
                    into[key].append(value_N.float().cpu())
            return torch.zeros(())

        chunked_sum(part.student, read)
    found = ranks.gather([dict(into) for into in columns])
    return [
        {key: forward.as_given(torch.cat([chunk for mine in found for chunk in mine[k].get(key, ())])) for key in found[0][k]}
        for k in range(len(columns))
    ]


def _rows_of(stream: Stream, batch: Trajectory) -> list[int]:
    sources = batch.extra.get("source", [""] * len(batch))
    return [i for i, source in enumerate(sources) if source == stream.rows]
