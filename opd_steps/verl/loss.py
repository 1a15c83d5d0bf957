"""A method's objective as verl's loss: the seam that local training calls too (objectives.chunk), on verl's logits and rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from opd_steps.config.asks import Asks, union
from opd_steps.config.needs import asks, terms
from opd_steps.loop.chunked import chunked_sum
from opd_steps.nouns.dist import LazyCategorical, Recorded, StepDist
from opd_steps.nouns.routed import Routed
from opd_steps.objectives.chunk import Figures, chunk_loss
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.stream import Stream, build
from opd_steps.verl import columns

LOSS, SUMS, WORST = "distillery_loss", "distillery_sum/", "distillery_worst/"


@dataclass
class Loss:
    """What verl's workers call twice for each micro-batch: with its logits, and with what the first call made of them.

    method    checked options of a Method
    teachers  those that the method asks, by name: what a worker loads (verl.beside), or None for the one that verl asks, a server

    verl averages gradients over its ranks, so the loss is multiplied by their number: then it is the sum over all rows, whose weights
    our trainer made of the whole step's rows (verl.columns). Of what the first call made only columns [1, n] get to the second
    one: the loss rides on the first token of one. Where the batch says `survey`, there is no loss, and the columns are what the method's
    parts measure before it. Raises ValueError for rows that are not as they are asked for.
    """

    method: dict
    teachers: dict[str, dict | None]

    @cached_property
    def streams(self) -> tuple[Stream, ...]:
        return tuple(build(row) for row in terms(self.method))

    @cached_property
    def routers(self) -> dict[str, list[str]]:
        """Those among whom rows are routed, by the name that stands for them."""
        return {name: list(spec["to"].values()) for name, spec in self.teachers.items() if spec and "to" in spec}

    @cached_property
    def asks(self) -> dict[str, Asks]:
        """Of whom the method asks what as it stands: a controller may come to ask others."""
        found = union([asks(row) for row in terms(self.method)])
        return union([found, *(dict.fromkeys(to, found[name]) for name, to in self.routers.items() if name in found)])

    def __getstate__(self) -> dict:
        return {"method": self.method, "teachers": self.teachers}

    def __call__(
        self,
        model_output: Mapping[str, Tensor] | None = None,
        data: Mapping[str, Any] | None = None,
        dp_group: Any = None,
        student_logits: Tensor | None = None,
        **_: Any,
    ) -> dict[str, Tensor] | tuple[Tensor, dict]:
        surveys = "survey" in data.keys() and bool(data["survey"])  # noqa: SIM118
        if student_logits is not None:
            return (self._survey if surveys else self._loss)(student_logits, data)
        if surveys:
            return torch.zeros(()), {}
        return model_output[LOSS].values().sum(), self._metrics(data)

    def _loss(self, logits_1LV: Tensor, data: Mapping[str, Any]) -> dict[str, Tensor]:
        """[1, L]: the loss of a micro-batch on its first token. L: tokens of all rows, prompts among them."""
        at_N, length_B = decisions(data)
        seen, each = self._evidence(data, at_N, length_B), columns.terms(data, len(self.streams))
        self.figures = Figures(int(data["batch_num_tokens"]))

        def loss_of(q: StepDist, i: int, j: int) -> Tensor:
            return chunk_loss(self.streams, [term.cut(i, j) for term in each], q, seen.chunk(i, j), self.figures)

        # verl has divided the logits by the temperature
        loss = chunked_sum(LazyCategorical(logits_1LV[0, at_N], None), loss_of)
        column_L = torch.zeros(logits_1LV.shape[1], dtype=loss.dtype, device=loss.device)
        return {LOSS: column_L.index_add(0, at_N.new_zeros(1), loss[None] * int(data["dp_size"]))[None]}

    @torch.no_grad()
    def _survey(self, logits_1LV: Tensor, data: Mapping[str, Any]) -> dict[str, Tensor]:
        """What wide plugs measure at each decision, each on the token before it, [1, L]."""
        at_N, length_B = decisions(data)
        seen, found = self._evidence(data, at_N, length_B), defaultdict(list)

        def read(q: StepDist, i: int, j: int) -> Tensor:
            for k, stream in enumerate(self.streams):
                for (plug, name), value_N in stream.survey(q, stream.view(seen.chunk(i, j))).items():
                    found[columns.survey_column(k, plug, name)].append(value_N.float())
            return logits_1LV.new_zeros(())

        chunked_sum(LazyCategorical(logits_1LV[0, at_N], None), read)
        spread = lambda value_N: value_N.new_zeros(logits_1LV.shape[1]).index_put((at_N,), value_N)[None]
        return {name: spread(torch.cat(parts)) for name, parts in found.items()}

    def _evidence(self, data: Mapping[str, Any], at_N: Tensor, length_B: Tensor) -> Evidence:
        row_N = torch.repeat_interleave(torch.arange(len(length_B), device=at_N.device), length_B)
        first_B = length_B.cumsum(0) - length_B
        given = {"outcome": data["outcome"].to(at_N.device)[row_N]} if "outcome" in data.keys() else {}  # noqa: SIM118
        return Evidence(
            action_N=data["responses"].values(),
            sampler_logp_N=data["rollout_log_probs"].values(),
            outcome_N=given.get("outcome"),
            step_N=torch.arange(len(at_N), device=at_N.device) - first_B[row_N],
            owner_N=row_N,
            others=self._others(data, at_N),
            columns=given,
        )

    def _others(self, data: Mapping[str, Any], at_N: Tensor) -> dict[str, StepDist]:
        """What each teacher says at the decisions."""
        found: dict[str, StepDist] = {}
        rows = columns.rows_of(data) if any(self.teachers.values()) else None
        for name, spec in self.teachers.items():
            if name in self.routers or name not in self.asks:
                continue
            if spec:
                from opd_steps.verl.beside import say  # transformers, which no server's words need

                found[name] = say(spec, rows, name, self.asks[name]).to(at_N.device)
            else:
                logp_NK, ids_NK = data["teacher_logprobs"].values()[at_N], data["teacher_ids"].values()[at_N].long()
                top = (ids_NK[:, 1:], logp_NK[:, 1:]) if logp_NK.shape[1] > 1 else (None, None)
                found[name] = Recorded(logp_NK[:, 0], *top)
        for name in self.routers.keys() & self.asks.keys():  # each read all rows, since all ranks ask a model at once
            route_N = data[f"{name}{columns.ROUTE}"].to(at_N.device)[rows.owner_N.to(at_N.device)]
            found[name] = routed([found[other] for other in self.routers[name]], route_N)
        return found

    def _metrics(self, data: Mapping[str, Any]) -> dict:
        """verl sums over micro-batches and averages over ranks; these are sums over both."""
        from verl.utils.metric import AggregationType, Metric

        found = {
            SUMS + name: Metric(AggregationType.SUM, value * int(data["dp_size"])) for name, value in self.figures.sums.items()
        }
        return found | {WORST + name: Metric(AggregationType.MAX, value) for name, value in self.figures.worst.items()}


def decisions(data: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """(place [N] among the micro-batch's tokens whose logits say each response token, length [B] of each response).

    `input_ids`, `responses`, `response_mask`: nested, rows one behind the other; a row is its prompt, then its response.
    """
    offsets, length_B = data["input_ids"].offsets(), data["responses"].offsets().diff()
    if not bool(data["response_mask"].values().all()):
        raise ValueError("a response holds tokens that its policy did not choose")
    first_B = offsets[1:] - length_B - 1
    within_N = torch.arange(int(length_B.sum()), device=offsets.device)
    within_N = within_N - torch.repeat_interleave(length_B.cumsum(0) - length_B, length_B)
    return torch.repeat_interleave(first_B, length_B) + within_N, length_B


def routed(each: Sequence[LazyCategorical], which_N: Tensor) -> StepDist:
    """At decision i what model number which_N[i] says, where all of them said something everywhere."""
    picks = [(which_N == k).nonzero()[:, 0] for k in range(len(each))]
    parts = [replace(said, hidden_ND=said.hidden_ND[at]) for said, at in zip(each, picks, strict=True)]
    at_N = torch.zeros_like(which_N).index_put(
        (torch.cat(picks),), torch.cat([torch.arange(len(at), device=at.device) for at in picks])
    )
    return Routed(parts, which_N, at_N)
