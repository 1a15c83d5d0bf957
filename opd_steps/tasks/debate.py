"""A debate: several models answer the same questions, read what all said, and answer again.

Nobody shows them a student's answer, or a right one: all that they see is a state, the tokens in front of which a student stands.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from opd_steps.nouns.trajectory import Trajectory
from opd_steps.seeds import derive

if TYPE_CHECKING:
    from opd_steps.nouns.policy import Policy
    from opd_steps.tasks.pool import PromptPool
    from opd_steps.tasks.transcripts import Transcript

_STATED = re.compile(r"<<CONFIDENCE=(\d+)>>")


@dataclass(frozen=True)
class Debate:
    """What was said of one state by K experts in R rounds.

    parts     [expert, round, text] of each reply, in the order of speaking
    shown     by expert: the prompt's text as it reads it before the student's answer, with the whole transcript
    verbal    by expert: the confidence of 0 to 100 that its last reply states; None where it states none
    logprob   by expert: 100 exp of the mean log-prob of its last reply's tokens, as they were sampled
    """

    parts: list[list]
    shown: list[str]
    verbal: list[float | None]
    logprob: list[float]

    def text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> Debate:
        return cls(**json.loads(text))


def stated(text: str) -> float | None:
    """The last `<<CONFIDENCE=N>>` of a reply; None without one, and for a number above 100."""
    found = _STATED.findall(text)
    return float(found[-1]) if found and int(found[-1]) <= 100 else None


def hold(
    experts: Sequence[Policy], pool: PromptPool, states: Trajectory, seeds: Sequence[int], rounds: int, show: Transcript
) -> tuple[list[Debate], list[list[Trajectory]]]:
    """(a debate about each state; the replies by round and expert, a row a state).

    states   rows whose contexts are the pool's prompts and what was said since; their actions are never looked at

    K rounds replies a state. In a round all speak at once, about what was said in the rounds before it; a reply's randomness is
    derive(seeds[i], "debate", round, expert).
    """
    ids = states.prompt_B.tolist()
    parts: list[list[list]] = [[] for _ in ids]
    replies: list[list[Trajectory]] = []
    for r in range(rounds):
        replies.append([])
        for k, expert in enumerate(experts):
            asked = [show.asks(pool.rows[i]["prompt"], said, k) for i, said in zip(ids, parts, strict=True)]
            own = [derive(seed, "debate", r, k) for seed in seeds]
            replies[-1].append(expert.rollout(behind(pool, states, asked), ids, own, 0))
        for k, rows in enumerate(replies[-1]):
            for said, text in zip(parts, pool.show(rows), strict=True):
                said.append([k, r, text])
    sure = [[100 * math.exp(float(logp.mean())) for logp in rows.logp] for rows in replies[-1]]
    found = []
    for b, (i, said) in enumerate(zip(ids, parts, strict=True)):
        shown = [show.shows(pool.rows[i]["prompt"], said, k) for k in range(len(experts))]
        verbal = [stated(text) for _, r, text in said if r == rounds - 1]
        found.append(Debate(said, shown, verbal, [of_expert[b] for of_expert in sure]))
    return found, replies


def behind(pool: PromptPool, states: Trajectory, prompts: Sequence[str]) -> list[list[int]]:
    """The states as token ids, with other texts in their prompts' places: what was said since stands behind these."""
    plain = pool.contexts(states.prompt_B.tolist())
    shown = [pool.task.prompt_ids(pool.tokenizer, text) for text in prompts]
    return [[*s, *state[len(p) :]] for s, state, p in zip(shown, states.contexts, plain, strict=True)]


def debates_of(rows: Trajectory, pool: Any) -> list[Debate] | None:
    """The debate about the state of each row: held when the rows were made (column "debate"), else with the data (kind `debate`); None:
    nobody has debated."""
    if "debate" in rows.extra:
        return [Debate.read(text) for text in rows.extra["debate"]]
    turns, ids = rows.extra.get("turn", [0] * len(rows)), rows.prompt_B.tolist()
    if any("debates" not in pool.rows[i] for i in ids):
        return None
    return [Debate(**pool.rows[i]["debates"][turn]) for i, turn in zip(ids, turns, strict=True)]
