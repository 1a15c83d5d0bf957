from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch

from opd_steps.models.tokenizers import encode
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.teachers.contexts import TeacherContext


@dataclass(frozen=True)
class Calibrated(TeacherContext):
    """Stated confidences become the empirical pass rate of the prompt's samples (CaOPD, arXiv 2604.16830).

    In three places: the sampled completion that is trained on, the demonstration that the teacher sees, and a note that
    asks it to state the value. Completions cut at the budget stay as they are. Edited tokens have no sampler: their
    log-probs are dropped, so no importance ratio is possible. Text is tokenised anew behind the edit. With `oracle` every
    prompt's rate is this one: the paper's sanity check, of which a student learns nothing but the number.
    """

    HINTS: ClassVar[bool] = True
    GROUP: ClassVar[bool] = True
    EDITS: ClassVar[bool] = True  # of tokens; needs a verifier that can restate a confidence

    oracle: Annotated[float, "-1 to 1"] = -1.0  # below 0: the empirical rate

    def prepare(self, rows: Trajectory, pool, seed: int, name: str) -> Trajectory:
        verifier, texts = pool.task.verifier, pool.show(rows)
        _, group_B, size_G = rows.prompt_B.unique(return_inverse=True, return_counts=True)
        rate_G = torch.zeros(len(size_G)).index_add(0, group_B, rows.reward_B.float()) / size_G
        if self.oracle >= 0:
            rate_G = torch.full_like(rate_G, self.oracle)
        actions, shown = [], []
        for i, (prompt, rate) in enumerate(zip(rows.prompt_B.tolist(), rate_G[group_B].tolist(), strict=True)):
            stop = rows.stop[i] if rows.stop else ""
            edited = encode(pool.tokenizer, verifier.restate(texts[i], rate) + stop)
            end = [int(rows.actions[i][-1])] if rows.closed_B[i] else []
            actions.append(torch.tensor([*edited, *end]) if rows.ended_B[i] else rows.actions[i])
            demonstration = verifier.restate(pool.rows[prompt]["solution"], rate)
            shown.append(pool.hinted(prompt, right=[demonstration], note=verifier.instruction(rate)))
        return rows.with_context(name, shown).with_columns(actions=actions, logp=None)
