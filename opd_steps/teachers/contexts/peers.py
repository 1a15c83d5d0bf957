from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from opd_steps.nouns.trajectory import Trajectory
from opd_steps.seeds import rng
from opd_steps.teachers.contexts import TeacherContext


@dataclass(frozen=True)
class Peers(TeacherContext):
    """The teacher also sees other samples of the same prompt: up to `right` correct and `wrong` wrong ones, marked so (MOPD, arXiv 2605.12652).

    A row without such peers keeps its plain prompt; the weight `has_context` leaves it out.
    of: "unrelated" shows samples of another prompt of the batch instead, marked in the same way: the paper's control.
    """

    HINTS: ClassVar[bool] = True
    GROUP: ClassVar[bool] = True
    CHECKS: ClassVar[tuple[str, ...]] = ("right + wrong >= 1",)

    right: Annotated[int, "at least 0"] = 2
    wrong: Annotated[int, "at least 0"] = 1
    of: Literal["same", "unrelated"] = "same"

    def prepare(self, rows: Trajectory, pool, seed: int, name: str) -> Trajectory:
        texts, correct = pool.show(rows), (rows.reward_B >= 0.5).tolist()
        prompts, versions = rows.prompt_B.tolist(), rows.version_B.tolist()
        groups: dict[int, list[int]] = {}
        for i, prompt in enumerate(prompts):
            groups.setdefault(prompt, []).append(i)
        order = sorted(groups)
        shown = []
        for i, prompt in enumerate(prompts):
            donor = prompt if self.of == "same" else order[(order.index(prompt) + 1) % len(order)]
            draw = rng(seed, "peers", prompt, i, versions[i])
            peers = [j for j in draw.permutation(groups[donor]).tolist() if j != i]
            right = [texts[j] for j in peers if correct[j]][: self.right]
            wrong = [texts[j] for j in peers if not correct[j]][: self.wrong]
            shown.append(pool.hinted(prompt, right, wrong))
        return rows.with_context(name, shown)
