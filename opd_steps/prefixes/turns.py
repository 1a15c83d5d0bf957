from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from opd_steps.config.plugs import plug
from opd_steps.loop.batches import rollout_metrics, sampled_rows
from opd_steps.nouns.batch import Batch
from opd_steps.nouns.draw import Draw
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.prefixes import PrefixSource
from opd_steps.seeds import derive, sample_seeds
from opd_steps.tasks.by_turn import by_turn
from opd_steps.tasks.debate import hold


@dataclass(frozen=True)
class Turns(PrefixSource):
    """Every turn of a conversation is a row of its own: the state is all that was said before it, the decisions are that turn's (OPAD,
    arXiv 2605.01347). history: `student`, the states that it comes to by its own turns and the world's answers to them, as in the
    paper; `dataset`, those of a text column, behind each of which it says a turn that nobody answers, as in the released code.

    debaters: teachers that debate about each state before they score the turn (context `debate`), while the student trains; [] where
    nobody debates, or the data bring debates. With aggregate seq_mean the loss is a sum over a conversation's turns, and a mean over
    conversations.
    """

    SAMPLED: ClassVar[bool] = False
    JUDGED: ClassVar[bool] = False
    OWN: ClassVar[bool] = True
    TEXTS: ClassVar[bool] = True
    OTHERS: ClassVar[dict] = {"debaters": "sampled"}

    history: Literal["dataset", "student"] = "student"
    column: str = "solution"  # of the data, whose turns `dataset` goes by
    debaters: list[str] = field(default_factory=list)
    rounds: Annotated[int, "at least 1"] = 2
    show: Any = plug("tasks/transcripts", "words")

    def rows(self, draw: Draw) -> Batch:
        rows = self._recorded(draw) if self.history == "dataset" else self._played(draw)
        if self.debaters:
            seeds = [derive(draw.seed, draw.step, p, b) for b, p in enumerate(rows.prompt_B.tolist())]
            experts = [draw.policies[name] for name in self.debaters]
            held, _ = hold(experts, draw.pool, rows, seeds, self.rounds, self.show)
            rows = rows.with_columns(extra=rows.extra | {"debate": [debate.text() for debate in held]})
        metrics = rollout_metrics(rows.with_columns(reward_B=None))
        return Batch(rows, metrics=metrics, expected=len(draw.picks) * draw.n)

    def _played(self, draw: Draw) -> Trajectory:
        made = sampled_rows(draw.learner, draw.pool, draw.picks, draw.n, draw.step, draw.seed, "rollout", version=draw.version)
        return by_turn(made.rows)

    def _recorded(self, draw: Draw) -> Trajectory:
        states = by_turn(draw.texts(self.column).rows(draw.picks))
        picks, seeds = sample_seeds(list(range(len(states))), draw.n, draw.seed, "turns", draw.step)
        states = states.rows(picks)
        said = draw.learner.rollout(states.contexts, states.prompt_B.tolist(), seeds, draw.version)
        return said.with_columns(extra=said.extra | {"turn": states.extra["turn"]})
