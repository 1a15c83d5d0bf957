"""Tasks: contexts to act on, and what judges the acts. The loop knows nothing else of a data set, an environment or a set of images."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import torch

from opd_steps.errors import NotFinite, UserError
from opd_steps.nouns.policy import Policy
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.seeds import epoch_order


class Texts(Protocol):
    """Written rows by number; a Trajectory is such."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def rows(self, index: Sequence[int]) -> Trajectory: ...


class Pool(Protocol):
    """The contexts of one split, by number 0 .. len - 1, for policies of one family. The defaults are those of a task that is asked
    once and judged afterwards; one that answers while the policy acts (an environment) has its own `play`.
    """

    @abstractmethod
    def __len__(self) -> int:
        """How many contexts there are."""

    @abstractmethod
    def contexts(self, ids: Sequence[int]) -> list[Any]:
        """What a policy is given to act on, an entry an id."""

    @abstractmethod
    def rewards(self, rows: Trajectory) -> list[float]:
        """The outcome of each row, 0 or 1 for most; `rows` hold whole groups (rows of equal prompt_B), which may be compared."""

    def play(self, policy: Policy, ids: Sequence[int], seeds: Sequence[int], version: int = 0) -> Trajectory:
        """One judged row an id, in their order; row i's randomness depends on seeds[i] alone. `version` made the policy's weights."""
        return self.judge(policy.rollout(self.contexts(ids), ids, seeds, version))

    def judge(self, rows: Trajectory) -> Trajectory:
        """The rows with reward_B; one that has a reward keeps it. Raises NotFinite for a reward that is no number.

        A task without a judge returns them as they are.
        """
        known_B = torch.full((len(rows),), torch.nan, dtype=torch.float32) if rows.reward_B is None else rows.reward_B
        asked = known_B.isnan().nonzero()[:, 0].tolist()
        if not asked:
            return rows
        found = torch.tensor(self.rewards(rows if len(asked) == len(rows) else rows.rows(asked)), dtype=torch.float32)
        if not found.isfinite().all():
            raise NotFinite("verifier", f"it gave {float(found[~found.isfinite()][0])} for a completion")
        return rows.with_columns(reward_B=known_B.index_put((torch.tensor(asked),), found))

    def measure(self, rows: Trajectory) -> dict[str, float]:
        """What the task's judge says of judged rows beside their rewards, by name."""
        return {}

    def show(self, rows: Trajectory) -> list[str]:
        """Each row in words, for people and for contexts that quote it."""
        return [""] * len(rows)

    def column(self, name: str, index: int) -> Any:
        """What the data say of a context, e.g. its domain. Raises UserError where they do not."""
        raise UserError("data", f"this task has no column '{name}'")

    def name(self, index: int) -> str:
        """What files call a context."""
        return str(index)

    def written(self, column: str, loss_on: str = "response", corpus: bool = False) -> Trajectory:
        """Rows that nobody sampled, one a context: the data's own `column` as decisions. Raises UserError where there is none.

        loss_on   "response": behind the context; "all": the context's own decisions are learned as well
        corpus    contexts as pretraining shows them
        """
        raise UserError("column", f"this task has no written '{column}' to learn from")

    def texts(self, column: str, loss_on: str = "response", corpus: bool = False) -> Texts:
        """The same rows for one that trains on some of them at a time."""
        return self.written(column, loss_on, corpus)

    def pick(self, seed: int, step: int, count: int, purpose: str = "prompts") -> list[int]:
        """The contexts of a step: shuffled epochs, a function of seed and step alone."""
        return epoch_order(len(self), (step - 1) * count, count, seed, purpose)
