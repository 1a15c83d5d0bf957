"""Trajectories: rows of decisions made by a policy, flattened over batch and time when a loss looks at them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

SILENCE = torch.zeros(0, 2, dtype=torch.long)  # what a row has heard that heard nothing


@dataclass(frozen=True)
class Trajectory:
    """B rows; row b has `len(actions[b])` decision points. N = all decision points, row after row.

    contexts   what each row's policy was given (token ids of the prompt; an image, a noisy latent, an observation ...)
    actions    per row a tensor [T_b, ...] of what was chosen at each decision point (token ids; x_{k-1}; motor command)
    prompt_B   index of the prompt in its split; rows of equal prompt form a group
    logp       per row [T_b] log-prob of each action under the sampler as it ran (fp32), or None when not sampled
    reward_B   verifier's outcome, nan when not asked
    version_B  weight version (optimizer step) of the sampler
    ended_B    the row stopped by itself (not cut at its maximum length)
    extra      columns that a policy needs to rebuild the states (latents, masks, the teacher's context), per row
    heard      per row [H_b, 2] tokens that others wrote (a world, a user, a tool): (place, token id) stands in front of decision number
               `place`, behind all of them at place T_b; None: nobody did. They are context of what follows and never decisions
               (nouns.heard)
    stop       per row its text from the stop string on that ended it, "" where none did (rollout.stops); None: no row has one
    """

    contexts: Sequence[Any]
    actions: Sequence[Tensor]
    prompt_B: Tensor
    logp: Sequence[Tensor] | None = None
    reward_B: Tensor | None = None
    version_B: Tensor | None = None
    ended_B: Tensor | None = None
    extra: dict[str, Sequence[Any]] = field(default_factory=dict)
    heard: Sequence[Tensor] | None = None
    stop: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def length_B(self) -> Tensor:
        return torch.tensor([len(a) for a in self.actions])

    @property
    def owner_N(self) -> Tensor:
        """Row of each decision point."""
        return torch.repeat_interleave(torch.arange(len(self)), self.length_B)

    @property
    def step_N(self) -> Tensor:
        """Position of each decision point within its row, from 0."""
        return torch.cat([torch.arange(len(a)) for a in self.actions])

    @property
    def action_N(self) -> Tensor:
        return torch.cat(list(self.actions))

    @property
    def logp_N(self) -> Tensor | None:
        return None if self.logp is None else torch.cat(list(self.logp))

    @property
    def closed_B(self) -> Tensor | None:
        """Whether each row's last token is an end token: it ended by itself, and not at a stop string. None where nobody knows."""
        if self.ended_B is None or self.stop is None:
            return self.ended_B
        return self.ended_B & torch.tensor([not stop for stop in self.stop])

    def mean_B(self, value_N: Tensor) -> Tensor:
        """Mean of a column over each row's decision points, [B]."""
        return value_N.new_zeros(len(self)).index_add(0, self.owner_N, value_N) / self.length_B

    def with_context(self, role: str, contexts: Sequence[Any]) -> Trajectory:
        """The rows with what that teacher sees in place of their own contexts, an entry a row."""
        return self.with_columns(extra={**self.extra, f"context:{role}": contexts})

    def has_context_B(self, role: str) -> Tensor:
        """Whether that teacher sees more than the row's own context, [B] bool."""
        told = self.extra.get(f"context:{role}", self.contexts)
        return torch.tensor([not _equal(a, b) for a, b in zip(told, self.contexts, strict=True)])

    def rows(self, index: slice | Sequence[int]) -> Trajectory:
        """Some of the rows, all columns."""
        picks = list(range(len(self)))[index] if isinstance(index, slice) else list(index)

        def take(column: Any) -> Any:
            if column is None:
                return None
            return column[picks] if isinstance(column, Tensor) else [column[i] for i in picks]

        return Trajectory(
            take(self.contexts),
            take(self.actions),
            take(self.prompt_B),
            take(self.logp),
            take(self.reward_B),
            take(self.version_B),
            take(self.ended_B),
            {k: take(v) for k, v in self.extra.items()},
            take(self.heard),
            take(self.stop),
        )

    def with_columns(self, **columns: Any) -> Trajectory:
        return replace(self, **columns)

    @staticmethod
    def concat(parts: Sequence[Trajectory]) -> Trajectory:
        """Rows of all parts; a column is kept when every part has it, `heard` and `stop` when any has."""

        def join(columns: list) -> Any:
            if any(c is None for c in columns):
                return None
            return torch.cat(columns) if isinstance(columns[0], Tensor) else [row for c in columns for row in c]

        names = ("contexts", "actions", "prompt_B", "logp", "reward_B", "version_B", "ended_B")
        shared = [name for name in parts[0].extra if all(name in p.extra for p in parts)]
        extra = {name: join([p.extra[name] for p in parts]) for name in shared}
        columns = [join([getattr(p, name) for p in parts]) for name in names]
        filled = {"heard": SILENCE, "stop": ""}
        known = {name for name in filled if any(getattr(p, name) is not None for p in parts)}
        late = {name: [row for p in parts for row in getattr(p, name) or [filled[name]] * len(p)] for name in known}
        return Trajectory(*columns, extra, **late)


def _equal(a: Any, b: Any) -> bool:
    """Whether two contexts are one: token ids in whatever sequence, or dicts of what is beside each other (a picture, a question)."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.equal(b)
    return a == b if isinstance(a, (int, float, str)) else list(a) == list(b)
