from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from opd_steps.config.plugs import plug
from opd_steps.judges import Judge
from opd_steps.nouns.bench import Bench
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.seeds import derive
from opd_steps.tasks.feedback import anchored, kept
from opd_steps.tasks.thoughts import after_thought


@dataclass(frozen=True)
class Tutor(Judge):
    """Two learners are each other's tutors (OPCoD, arXiv 2606.14368): each sample y of one at a prompt x gets a feedback by the other,

        f ~ tutor( . | x, y, an own sample at x: the first right one, else the first )      if passrate_tutor(x) >= gate (gate 0: always)

    as the column `feedback`, which the context `tutored` shows; "" where the tutor does not know, where f names no concept of x
    (matches of `concept`), and where nothing is left of it without what gives the answer away (tasks/feedback.py: stretches of up
    to `run` matches of `unit` that the task's verifier accepts, or that are the answer). Rewards stay as they are. `ask`: how a
    tutor is asked. Sampled by both as they stand before the step.

    known     share of samples whose tutor knows            leaks   share of feedback that told the answer
    accepted  share of feedback that is shown
    """

    EVERY: ClassVar[bool] = True
    LEARNER: ClassVar[bool] = True
    METRICS: ClassVar[tuple[str, ...]] = ("known", "accepted", "leaks")

    learner: str = "peer"  # the student's peer
    gate: Annotated[float, "0 to 1"] = 0.5
    ask: Any = plug("tasks/hints", "words")
    concept: str = r"[^\W\d_]{7,}"
    unit: str = r"\S+"
    run: Annotated[int, "at least 1"] = 1

    def judge(self, rows: Trajectory, bench: Bench) -> tuple[Trajectory, dict[str, float]]:
        tutor = "" if bench.name else self.learner
        shown = self.own_samples(bench.rows[tutor], bench.pool)
        prompts = rows.prompt_B.tolist()
        asked = [i for i, prompt in enumerate(prompts) if shown[prompt][1] >= self.gate]
        said = self.feedback(rows.rows(asked), {p: text for p, (text, _) in shown.items()}, tutor, bench)
        safe = [
            kept(text, self.tells(bench.pool, prompts[i]), self.unit, self.run) for i, text in zip(asked, said, strict=True)
        ]
        column = [""] * len(rows)
        for i, text in zip(asked, safe, strict=True):
            column[i] = text if anchored(text, bench.pool.rows[prompts[i]]["prompt"], self.concept) else ""
        of_asked = lambda count: count / len(asked) if asked else 0.0
        leaks = sum(one != other.strip() for one, other in zip(safe, said, strict=True))
        figures = {"known": len(asked) / len(rows), "accepted": of_asked(sum(map(bool, column))), "leaks": of_asked(leaks)}
        return rows.with_columns(extra={**rows.extra, "feedback": column}), figures

    def own_samples(self, made: Trajectory, pool: Any) -> dict[int, tuple[str, float]]:
        """By prompt: what a tutor shows of its samples, the first right one, else the first; its pass rate."""
        groups: dict[int, list[int]] = defaultdict(list)
        for i, prompt in enumerate(made.prompt_B.tolist()):
            groups[prompt].append(i)
        texts, right = pool.show(made), (made.reward_B >= 0.5).tolist()
        best = {prompt: next((i for i in group if right[i]), group[0]) for prompt, group in groups.items()}
        rate = {prompt: sum(right[i] for i in group) / len(group) for prompt, group in groups.items()}
        return {prompt: (after_thought(texts[i]) or "", rate[prompt]) for prompt, i in best.items()}

    def feedback(self, rows: Trajectory, own: dict[int, str], tutor: str, bench: Bench) -> list[str]:
        """What the tutor says of each row."""
        if not len(rows):
            return []
        pool, prompts = bench.pool, rows.prompt_B.tolist()
        tried = [after_thought(text) or "" for text in pool.show(rows)]
        texts = [
            self.ask.hinted_prompt(pool.rows[p]["prompt"], right=[own[p]], wrong=[text])
            for p, text in zip(prompts, tried, strict=True)
        ]
        contexts = [pool.task.prompt_ids(pool.tokenizer, text) for text in texts]
        version = int(rows.version_B[0])
        seeds = [derive(bench.seed, "feedback", tutor, version, p, i) for i, p in enumerate(prompts)]
        made = bench.learners[tutor].rollout(contexts, prompts, seeds, version)
        return [after_thought(text) or "" for text in pool.show(made)]

    def tells(self, pool: Any, prompt: int):
        """Whether a text gives the answer of a prompt."""
        row = pool.rows[prompt]
        answer, verifier = row["answer"], pool.task.verifier.of_row(row)
        return lambda text: verifier.score(text, answer) > 0 or text.strip() == answer.strip()
