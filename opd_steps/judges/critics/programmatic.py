"""A rubric by counting: what the teacher's answers have in common, and the students' more seldom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from opd_steps.judges.critics import Critic
from opd_steps.judges.critics._rubric import MOST, Criterion, Rubric


@dataclass(frozen=True)
class Programmatic(Critic):
    """Stands in for a language model as rubricator and verifier of ROPD (arXiv 2605.07396); the criteria are ours. An answer is read as
    its steps, and its end, the text behind the last `after` of its last step. Of what most of the teacher's answers agree on:

        answer       its end is theirs: 5 points
        step         it says a step of theirs
        at least, at most   it has as many steps as their shortest answer, no more than their longest

    each of the latter for 1 + 4 max(0, share of the teacher's answers - share of the students' that do so), rounded; the twelve of the
    largest difference. No answer key is read: where the teacher is wrong, the rubric is.
    """

    between: str = ""  # two steps of an answer; "": each line is one
    after: str = ""  # in the last step, what its end stands behind

    def rubric(self, question: str, teacher: Sequence[str], students: Sequence[str]) -> Rubric:
        read = [self._steps(text) for text in teacher]
        agreed = lambda items: [item for item, count in Counter(items).items() if 2 * count > len(read)]
        found = [("answer", end) for end in agreed(map(self._end, read))]
        found += [("step", step) for step in agreed(step for steps in read for step in dict.fromkeys(steps))]
        found += [("at least", str(min(map(len, read)))), ("at most", str(max(map(len, read))))]
        met = lambda criterion, texts: sum(self._meets(Criterion(*criterion, 1), text) for text in texts) / len(texts)
        gaps = {criterion: max(0.0, met(criterion, teacher) - met(criterion, students)) for criterion in found}
        order = sorted(found, key=lambda criterion: (criterion[0] != "answer", -gaps[criterion]))
        points = lambda criterion: 5 if criterion[0] == "answer" else 1 + round(4 * gaps[criterion])
        return Rubric(tuple(Criterion(*criterion, points(criterion)) for criterion in order[:MOST]))

    def verdicts(self, rubric: Rubric, question: str, answers: Sequence[str]) -> list[list[bool]]:
        return [[self._meets(criterion, text) for criterion in rubric.criteria] for text in answers]

    def _meets(self, criterion: Criterion, text: str) -> bool:
        steps = self._steps(text)
        if criterion.category == "answer":
            return self._end(steps) == criterion.text
        if criterion.category == "step":
            return criterion.text in steps
        return len(steps) >= int(criterion.text) if criterion.category == "at least" else len(steps) <= int(criterion.text)

    def _steps(self, text: str) -> list[str]:
        return [step.strip() for step in (text.split(self.between) if self.between else text.splitlines()) if step.strip()]

    def _end(self, steps: Sequence[str]) -> str:
        last = steps[-1] if steps else ""
        return last.rpartition(self.after)[2].strip() if self.after else last
