from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from opd_steps.nouns.dist import Categorical
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.signals.jsd import JSD
from opd_steps.objectives.stream import Moment
from opd_steps.objectives.weights import Weight
from opd_steps.objectives.weights._share import top_share
from opd_steps.seeds import rng


@dataclass(frozen=True)
class TIP(Weight):
    """Keep the `share` of the batch's tokens of highest importance s = h + d - h d (TIP, arXiv 2604.14084).

    h = H(q) / ln V, the student's normalised entropy; d = JSD(p, q) / ln 2. So uncertain tokens are kept, and confidently
    wrong ones (low h, high d). by: "entropy" ranks by h alone, "random" keeps as many at random: the paper's controls.

    kept_sure_apart ...   shares of the kept tokens by quadrant: sure where h is at most the batch's median, else unsure; apart where
                          d is above its median, else agreed
    sure_apart_kept       share of the sure and apart, the confidently wrong, that are kept; `share` by chance
    """

    TEACHER: ClassVar[str] = "full"
    WIDE: ClassVar[bool] = True
    SURVEY: ClassVar[bool] = True
    METRICS: ClassVar[tuple[str, ...]] = (
        "kept_sure_agreed",
        "kept_sure_apart",
        "kept_unsure_agreed",
        "kept_unsure_apart",
        "sure_apart_kept",
    )

    share: Annotated[float, "above 0, at most 1"] = 0.5
    by: Literal["importance", "entropy", "random"] = "importance"

    def survey(self, q: Categorical, evidence: Evidence) -> dict[str, Tensor]:
        h_N = q.entropy() / math.log(q.logp_NV.shape[-1])
        d_N = JSD(0.5).term(q.logp_NV, evidence.teacher.logp_NV).sum(-1) / math.log(2)
        return {"entropy": h_N, "distance": d_N, "importance": h_N + d_N - h_N * d_N}

    def over_batch(self, rows: Trajectory, found: dict[str, Tensor], moment: Moment) -> tuple[Tensor, dict[str, float]]:
        if self.by == "random":
            value_N = torch.from_numpy(rng(moment.seed, "tip", moment.step).random(len(rows.action_N)))
        else:
            value_N = found[self.by]
        keep_N = top_share(value_N, self.share)
        return keep_N, composition(keep_N.bool(), found["entropy"], found["distance"])


def composition(keep_N: Tensor, h_N: Tensor, d_N: Tensor) -> dict[str, float]:
    """METRICS of a choice of tokens; sure_apart_kept is left out where no token is both."""
    h_of, d_of = (
        {"sure": h_N <= h_N.median(), "unsure": h_N > h_N.median()},
        {"agreed": d_N <= d_N.median(), "apart": d_N > d_N.median()},
    )
    share = lambda inside_N, of_N: float((inside_N & of_N).sum() / of_N.sum())
    found = {f"kept_{a}_{b}": share(h_of[a] & d_of[b], keep_N) for a in h_of for b in d_of}
    wrong_N = h_of["sure"] & d_of["apart"]
    return found | ({"sure_apart_kept": share(keep_N, wrong_N)} if wrong_N.any() else {})
