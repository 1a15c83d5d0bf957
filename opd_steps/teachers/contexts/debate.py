from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from opd_steps.errors import UserError
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.tasks.debate import behind, debates_of
from opd_steps.teachers.contexts import TeacherContext


@dataclass(frozen=True)
class Debate(TeacherContext):
    """The teacher sees the transcript of its debate with others about the row's state (MAD-OPD, arXiv 2605.01347): the student's answer is in
    none of it. The debates are those of the data (kind `debate`), or those held when the rows were made (prefix `turns`, debaters).

    Column confidence:<name>, for the weight `confidence`: who of the debate it is, and how sure all of them were.
    """

    expert: Annotated[int, "at least 0"] = 0  # its number in the debate

    def prepare(self, rows: Trajectory, pool, seed: int, name: str) -> Trajectory:
        found = debates_of(rows, pool)
        if found is None:
            raise UserError("data", "nobody has debated its prompts: read a debate node, or let `turns` hold debates")
        if found and self.expert >= len(found[0].shown):
            raise UserError(
                f"{name}.context.expert", f"the debate has {len(found[0].shown)} experts, from 0; found {self.expert}"
            )
        number = lambda values: [float("nan") if value is None else value for value in values]
        sure = [{"expert": self.expert, "verbal": number(d.verbal), "logprob": number(d.logprob)} for d in found]
        rows = rows.with_context(name, behind(pool, rows, [d.shown[self.expert] for d in found]))
        return rows.with_columns(extra=rows.extra | {f"confidence:{name}": sure})
