"""A method's objective as verl's loss: the seam that local training calls too (objectives.chunk), on verl's logits and rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from opd_steps.config.needs import terms
from opd_steps.loop.chunked import chunked_sum
from opd_steps.nouns.dist import LazyCategorical, Recorded, StepDist
from opd_steps.objectives.aggregate import weights_N
from opd_steps.objectives.chunk import Figures, Term, chunk_loss
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.stream import Stream, build

LOSS, SUMS, WORST = "distillery_loss", "distillery_sum/", "distillery_worst/"


@dataclass
class Loss:
    """What verl's workers call twice for each micro-batch: with its logits, and with what the first call made of them.

    method    checked options of a Method
    window    generation budget in decisions, for window_mean
    teachers  names of those that the method asks: "reference" has verl's reference policy, the one other one its teacher

    verl averages gradients over its ranks, so the loss is multiplied by their number: then it is the sum over all rows, whose weights
    are made of verl's counts of the whole step's rows and tokens. Of what the first call made only columns [1, n] get to the second
    one: the loss rides on the first token of one. Raises ValueError for rows that are not as they are asked for.
    """

    method: dict
    window: int
    teachers: tuple[str, ...] = ()

    @cached_property
    def streams(self) -> tuple[Stream, ...]:
        return tuple(build(row) for row in terms(self.method))

    def __getstate__(self) -> dict:
        return {"method": self.method, "window": self.window, "teachers": self.teachers}

    def __call__(
        self,
        model_output: Mapping[str, Tensor] | None = None,
        data: Mapping[str, Any] | None = None,
        dp_group: Any = None,
        student_logits: Tensor | None = None,
        **_: Any,
    ) -> dict[str, Tensor] | tuple[Tensor, dict]:
        if student_logits is not None:
            return {LOSS: self._column(student_logits, data)}
        loss = model_output[LOSS].values().sum()
        return loss, self._metrics(data)

    def _column(self, logits_1LV: Tensor, data: Mapping[str, Any]) -> Tensor:
        """[1, L]: the loss of a micro-batch on its first token. L: tokens of all rows, prompts among them."""
        at_N, length_B = decisions(data)
        seen = self._evidence(data, at_N, length_B)
        rows, tokens = int(data["global_batch_size"]), int(data["batch_num_tokens"])
        scale_N = weights_N(self.method["aggregate"], length_B, rows, tokens, self.window)
        term = Term(scale_N, torch.ones_like(scale_N, dtype=torch.bool), None, tokens)
        self.figures = Figures(tokens)

        def loss_of(q: StepDist, i: int, j: int) -> Tensor:
            return chunk_loss(self.streams, [term.cut(i, j)] * len(self.streams), q, seen.chunk(i, j), self.figures)

        # verl has divided the logits by the temperature
        loss = chunked_sum(LazyCategorical(logits_1LV[0, at_N], None), loss_of)
        column_L = torch.zeros(logits_1LV.shape[1], dtype=loss.dtype, device=loss.device)
        return column_L.index_add(0, at_N.new_zeros(1), loss[None] * int(data["dp_size"]))[None]

    def _evidence(self, data: Mapping[str, Any], at_N: Tensor, length_B: Tensor) -> Evidence:
        row_N = torch.repeat_interleave(torch.arange(len(length_B), device=at_N.device), length_B)
        first_B = length_B.cumsum(0) - length_B
        others: dict[str, StepDist] = {}
        for name in self.teachers:
            if name == "reference":
                others[name] = Recorded(data["ref_log_prob"].values())
            else:
                logp_NK, ids_NK = data["teacher_logprobs"].values()[at_N], data["teacher_ids"].values()[at_N].long()
                top = (ids_NK[:, 1:], logp_NK[:, 1:]) if logp_NK.shape[1] > 1 else (None, None)
                others[name] = Recorded(logp_NK[:, 0], *top)
        columns = {"outcome": data["outcome"].to(at_N.device)[row_N]} if "outcome" in data.keys() else {}  # noqa: SIM118
        return Evidence(
            action_N=data["responses"].values(),
            sampler_logp_N=data["rollout_log_probs"].values(),
            outcome_N=columns.get("outcome"),
            step_N=torch.arange(len(at_N), device=at_N.device) - first_B[row_N],
            owner_N=row_N,
            others=others,
            columns=columns,
        )

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
