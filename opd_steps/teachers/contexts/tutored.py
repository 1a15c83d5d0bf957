from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from opd_steps.errors import UserError
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.tasks.thoughts import after_thought
from opd_steps.teachers.contexts import TeacherContext


@dataclass(frozen=True)
class Tutored(TeacherContext):
    """The teacher sees the first other sample of the prompt that is right, without its thought, and the feedback of a peer that the
    judge `tutor` lets through (OPCoD, arXiv 2606.14368). A row with neither keeps its plain prompt; the mask `told` leaves it out.
    """

    HINTS: ClassVar[bool] = True
    GROUP: ClassVar[bool] = True

    def prepare(self, rows: Trajectory, pool, seed: int, name: str) -> Trajectory:
        if "feedback" not in rows.extra:
            raise UserError("tutored", "nobody gave feedback to these rows: judges: [tutor], or the context retrospect")
        texts, right, prompts = pool.show(rows), (rows.reward_B >= 0.5).tolist(), rows.prompt_B.tolist()
        shown = []
        for i, (prompt, note) in enumerate(zip(prompts, rows.extra["feedback"], strict=True)):
            others = (j for j, other in enumerate(prompts) if other == prompt and right[j] and j != i)
            success = [after_thought(texts[j]) or "" for j in others][:1]
            shown.append(pool.hinted(prompt, right=success, note=note))
        return rows.with_context(name, shown)
