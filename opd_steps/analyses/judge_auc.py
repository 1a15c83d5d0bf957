from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from opd_steps.analyses import Analysis
from opd_steps.analyses._context import Context
from opd_steps.analyses._mean import mean
from opd_steps.analyses.ranking import auc
from opd_steps.config.plugs import plug
from opd_steps.evaluation.points import nll
from opd_steps.nouns.bench import Bench


@dataclass(frozen=True)
class JudgeAUC(Analysis):
    """Which signal tells right answers from wrong ones: a judge's reward, or the teacher's log-prob? Over the model's samples of all
    prompts (arXiv 2605.07396), .5 says nothing, ties count one half:

    judge           AUC of the judge's reward against the verifier's verdict
    teacher         of mean_t log p(y_t), p the teacher's, which is read for this measurement alone
    right           share of right samples
    """

    NEEDS: ClassVar[tuple[str, ...]] = ("teacher", "data", "answers")
    METRICS: ClassVar[tuple[str, ...]] = ("auc/judge", "auc/teacher", "auc/right")

    judge: Any = plug("judges", "rubric")
    n: Annotated[int, "2 to 1024"] = 8  # samples per prompt

    def measure(self, ctx: Context) -> dict[str, float | None]:
        rows, model = ctx.rollouts("model", self.n), ctx.policies["model"]
        bench = Bench({"": model}, {}, ctx.pool, model.max_new_tokens, ctx.seed, ctx.answers)
        right_B = rows.reward_B > 0
        score_B = rows.mean_B(-nll(rows, ctx.policies["teacher"], "teacher"))
        judged_B = self.judge.judge(rows, bench)[0].reward_B
        return {"auc/judge": auc(judged_B, right_B), "auc/teacher": auc(score_B, right_B), "auc/right": mean(right_B)}
