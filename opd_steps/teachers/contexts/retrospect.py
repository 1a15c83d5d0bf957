from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from opd_steps.errors import UserError
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.tasks.thoughts import after_thought
from opd_steps.teachers.contexts import TeacherContext


@dataclass(frozen=True)
class Retrospect(TeacherContext):
    """The teacher sees the first other sample of the prompt that is right, without its thought, or else what the verifier says of the
    row's own wrong one (SDPO, arXiv 2601.20802; the released code's order and its reward of .5).

    feedback: "without_success" as there; "always" beside a right sample as well; "alone" and no right sample; "never". A row with
    nothing to show keeps its plain prompt; the mask `told` leaves it out.
    """

    HINTS: ClassVar[bool] = True
    GROUP: ClassVar[bool] = True

    feedback: Literal["without_success", "always", "alone", "never"] = "without_success"

    def prepare(self, rows: Trajectory, pool, seed: int, name: str) -> Trajectory:
        if self.feedback != "never" and not pool.task.verifier.SPEAKS:
            raise UserError(
                "retrospect.feedback", "the data's verifier says nothing of wrong samples: never, or one with feedback"
            )
        texts, right = pool.show(rows), (rows.reward_B >= 0.5).tolist()
        prompts, shown = rows.prompt_B.tolist(), []
        for i, prompt in enumerate(prompts):
            others = (j for j, other in enumerate(prompts) if other == prompt and right[j] and j != i)
            success = [] if self.feedback == "alone" else [after_thought(texts[j]) or "" for j in others][:1]
            says = not right[i] and self.feedback != "never" and not (success and self.feedback == "without_success")
            note = pool.task.verifier.feedback(texts[i], pool.rows[prompt]["answer"]) if says else ""
            shown.append(pool.hinted(prompt, right=success, note=note))
        return rows.with_context(name, shown)
