"""What acts on a training after its steps, beside the loop itself."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from opd_steps.nouns.hook import Hook


@dataclass(frozen=True)
class Setting:
    """What a hook may look at: the training policy, the train prompts, the node's seed, and folders of finished models.

    start       where the student starts from
    update_of   a finished model that started there as well, where the node names one
    steps       of the whole training
    work        the work directory, which outlives a kill
    held        (split, prompts) -> the first prompts of another split, as the policy reads them
    """

    policy: Any
    pool: Any
    seed: int
    start: Path
    update_of: Path | None = None
    work: Path = Path()
    held: Callable[[str, int], Any] | None = None
    steps: int = 0


class HookPlug(Protocol):
    """Options of a hook, and how it is made.

    METRICS  the curves that it draws, without `train/`
    UPDATE   whether it reads the node's `update_of`
    WEIGHTS  whether it moves or masks the model's own weights, by their names: an adapter leaves them as they are
    PROMPTS  whether it asks prompts of the node's data
    SAMPLES  whether it has options `split`, `prompts`, `temperature` and `max_new_tokens`: it has the policy answer, or `measure` nll
    OF_DATA  groups of the plugs that the data node names and it runs
    An option `best`: it keeps a milestone of this name. An option `patience`: it may end the training early.
    """

    METRICS: ClassVar[tuple[str, ...]] = ()
    UPDATE: ClassVar[bool] = False
    WEIGHTS: ClassVar[bool] = False
    PROMPTS: ClassVar[bool] = False
    SAMPLES: ClassVar[bool] = False
    OF_DATA: ClassVar[tuple[str, ...]] = ()
    UNCARRIED: ClassVar[str] = "nothing of ours stands behind its update"

    @abstractmethod
    def make(self, setting: Setting) -> Hook:
        """The hook of one training, before its first step."""
