from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import torch

from opd_steps.analyses import Analysis
from opd_steps.analyses._context import Context
from opd_steps.analyses._mean import mean
from opd_steps.config.plugs import plug
from opd_steps.nouns.bench import Bench
from opd_steps.seeds import derive


@dataclass(frozen=True)
class Tutoring(Analysis):
    """What a tutor's feedback does to a model's answers (OPCoD, arXiv 2606.14368): the model samples, the role `teacher` gives
    feedback, whether it knows or not, and the model answers again with the feedback in view.

    known, accepted   share of samples whose tutor passes the judge's gate; of all feedback, what is anchored and keeps the answer
    broken, mended    of right samples that got feedback the share whose second answer is wrong; of wrong ones, right
    broken_known ...  of those whose tutor passes the gate          broken_alone ...  of the same, when asked again without feedback
    """

    NEEDS: ClassVar[tuple[str, ...]] = ("teacher", "data")
    METRICS: ClassVar[tuple[str, ...]] = (
        "tutoring/known",
        "tutoring/accepted",
        "tutoring/broken",
        "tutoring/mended",
        "tutoring/broken_known",
        "tutoring/mended_known",
        "tutoring/broken_alone",
        "tutoring/mended_alone",
    )

    judge: Any = plug("judges", "tutor")
    n: Annotated[int, "2 to 1024"] = 8  # samples per prompt of either

    def measure(self, ctx: Context) -> dict[str, float | None]:
        made = {"": ctx.rollouts("model", self.n), self.judge.learner: ctx.rollouts("teacher", self.n)}
        learners = {"": ctx.policies["model"], self.judge.learner: ctx.policies["teacher"]}
        bench = Bench(learners, {}, ctx.pool, 0, ctx.seed, rows=made)
        rows = made[""]
        own, prompts = self.judge.own_samples(made[self.judge.learner], ctx.pool), rows.prompt_B.tolist()
        known_B = torch.tensor([own[prompt][1] >= self.judge.gate for prompt in prompts])
        said, _ = replace(self.judge, gate=0.0).judge(rows, bench)
        notes = said.extra["feedback"]
        has_B, right_B = torch.tensor([bool(note) for note in notes]), rows.reward_B > 0
        again, alone = (self._again(ctx, prompts, shown) for shown in (notes, [""] * len(notes)))
        found = {"known": mean(known_B.double()), "accepted": mean(has_B.double())}
        for name, second_B, where_B in (
            ("", again, has_B),
            ("_known", again, has_B & known_B),
            ("_alone", alone, has_B & known_B),
        ):
            found[f"broken{name}"] = mean((~second_B).double(), where_B & right_B)
            found[f"mended{name}"] = mean(second_B.double(), where_B & ~right_B)
        return {f"tutoring/{name}": value for name, value in found.items()}

    def _again(self, ctx: Context, prompts: list[int], notes: list[str]) -> torch.Tensor:
        """Whether the model's next answer is right, [B]."""
        contexts = [ctx.pool.hinted(prompt, note=note) for prompt, note in zip(prompts, notes, strict=True)]
        seeds = [derive(ctx.seed, "again", prompt, i) for i, prompt in enumerate(prompts)]
        return ctx.pool.judge(ctx.policies["model"].rollout(contexts, prompts, seeds)).reward_B > 0
