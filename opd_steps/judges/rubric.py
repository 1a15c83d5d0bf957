from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any, ClassVar, Literal

import torch

from opd_steps.config.plugs import plug
from opd_steps.errors import UserError
from opd_steps.judges import Judge
from opd_steps.judges.critics._rubric import NoRubric, Rubric
from opd_steps.nouns.bench import Bench
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.process import ranks
from opd_steps.tasks.thoughts import after_thought


@dataclass(frozen=True)
class RubricJudge(Judge):
    """ROPD (arXiv 2605.07396): rewards by a rubric that is made from the contrast of a teacher's answers and a prompt's samples.

        pass_rate   r_i = s_i / max,  s_i the points of the criteria that sample i meets, max those of all
        gap         r_i = (s_i - mean s of the teacher's answers) / max    (a public port's; among the samples of one rubric it differs
                    from pass_rate by a constant, which a group's mean takes away)

    shared: one rubric for all samples of a prompt; else one for each. All answers, the teacher's too, are judged in one batch in the
    order of their hashes: who wrote an answer, and where it stood, is not seen. The thought before an answer is not read. Where the
    critic fails the whole group has reward 0 and an empty hash in the column `rubric`. The teacher is its texts (`answers` of
    the node): nobody asks it anything.
    """

    TEXTS: ClassVar[bool] = True
    METRICS: ClassVar[tuple[str, ...]] = ("rubric_reward", "rubric_failed", "rubric_teacher", "rubric_criteria")

    critic: Any = plug("judges/critics", "programmatic")
    answers: Annotated[int, "at least 1"] = 4  # of the teacher, the first of a prompt
    shared: bool = True
    reward: Literal["pass_rate", "gap"] = "pass_rate"

    def judge(self, rows: Trajectory, bench: Bench) -> tuple[Trajectory, dict[str, float]]:
        groups: dict[int, list[int]] = {}
        for i, prompt in enumerate(rows.prompt_B.tolist()):
            groups.setdefault(prompt, []).append(i)
        said, order = [after_thought(text) or "" for text in bench.pool.show(rows)], list(groups)
        mine = [order[g] for g in ranks.share(len(order))]  # a critic may be slow
        judged = ranks.collect([self._group(prompt, [said[i] for i in groups[prompt]], bench) for prompt in mine])
        reward_B, digests = torch.zeros(len(rows)), [""] * len(rows)
        for prompt, (found, _) in zip(order, judged, strict=True):
            for i, (reward, digest) in zip(groups[prompt], found, strict=True):
                reward_B[i], digests[i] = reward, digest
        made = [figures for _, figures in judged if figures]
        means = {name: sum(f[name] for f in made) / len(made) for name in made[0]} if made else {}
        told = {"rubric_reward": float(reward_B.mean()), "rubric_failed": 1 - len(made) / len(judged)}
        return rows.with_columns(reward_B=reward_B, extra={**rows.extra, "rubric": digests}), told | means

    def _group(self, prompt: int, said: Sequence[str], bench: Bench) -> tuple[list[tuple[float, str]], dict[str, float]]:
        """(reward and rubric's hash of each sample, figures); of a group that failed zeros, and no figures."""
        question = bench.pool.column("prompt", prompt)
        teacher = [after_thought(text) or "" for text in bench.texts.get(prompt, [])[: self.answers]]
        if len(teacher) < self.answers:
            raise UserError(
                "answers", f"{len(teacher)} of prompt {bench.pool.name(prompt)}; the judge rubric reads {self.answers}"
            )
        try:
            if self.shared:
                rubric = self.critic.rubric(question, teacher, said)
                return self._rewards(rubric, question, teacher, said)
            each = [self._rewards(self.critic.rubric(question, teacher, [text]), question, teacher, [text]) for text in said]
            return [found[0] for found, _ in each], {k: sum(f[k] for _, f in each) / len(each) for k in each[0][1]}
        except NoRubric:
            return [(0.0, "")] * len(said), {}

    def _rewards(
        self, rubric: Rubric, question: str, teacher: Sequence[str], said: Sequence[str]
    ) -> tuple[list[tuple[float, str]], dict[str, float]]:
        blind = sorted({*teacher, *said}, key=lambda text: sha256(text.encode()).digest())
        met = dict(zip(blind, self.critic.verdicts(rubric, question, blind), strict=True))
        theirs = sum(rubric.share(met[text]) for text in teacher) / len(teacher)
        level = theirs if self.reward == "gap" else 0.0
        figures = {"rubric_teacher": theirs, "rubric_criteria": float(len(rubric.criteria))}
        return [(rubric.share(met[text]) - level, rubric.digest) for text in said], figures
