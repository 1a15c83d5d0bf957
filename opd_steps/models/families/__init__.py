"""Families of models: how a kind of model is made, loaded, saved and compared. A family is one file here, named on a `model` node.

Every node that reads a model asks the family of that model, which its manifest names (`facts["family"]`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from opd_steps.models.numerics import FP32, Numerics

if TYPE_CHECKING:
    from torch import Tensor

    from opd_steps.nouns.policy import Policy
    from opd_steps.store.artifacts import Job


class Family(Protocol):
    """READS     options of the model node that `make` looks at, of path, revision, architecture, config, tokenizer, speaks, data; a node
              that sets another one is refused
    ENGINES   who may sample or score in the place of the torch model: local, vllm, server
    TEXT      whether its policies have a `tokenizer`, so that prompts in text can be shown to them
    WRITTEN   whether its policies decide on the data's own texts as they are written, so that pretraining and SFT may read them
    PARALLEL  whether a model may be shared by several processes (process.ranks.shard)
    ADAPTS    whether its models may be trained by an adapter: `policy` takes `tuning`, `save` writes the adapter alone, and a policy
              with one can say what it began as (`begun`)
    NUMERICS  whether its policies are held and computed with as `numerics` says; a node that asks for it of others is refused
    LACKS     of the options of NUMERICS those that it does not know all the same
    STOPS     whether its policies write texts from left to right, which stop strings can end; a node that asks for it of others is refused

    The options of the plug itself are what the node reads beside.
    """

    READS: ClassVar[tuple[str, ...]] = ()
    ENGINES: ClassVar[tuple[str, ...]] = ("local",)
    TEXT: ClassVar[bool] = False
    WRITTEN: ClassVar[bool] = True
    PARALLEL: ClassVar[bool] = False
    ADAPTS: ClassVar[bool] = False
    NUMERICS: ClassVar[bool] = False
    LACKS: ClassVar[tuple[str, ...]] = ()
    STOPS: ClassVar[bool] = False
    UNCARRIED: ClassVar[str] = "it trains causal language models"

    @abstractmethod
    def make(self, job: Job) -> dict:
        """Write a model to start from into job.stage, a function of options, data and job.seed; returns the node's facts.

        What preflight and others look at, where the family has it: `tokenizer` (models.tokenizers.describe), `ends` (ids that
        end a row), `vocab_size` (number of actions that a decision has), `positions` (of a row, at most; None = any number).
        """

    @abstractmethod
    def policy(
        self,
        folder: Path,
        *,
        numerics: Numerics = FP32,
        sampling: Mapping | None = None,
        batch: int = 256,
        train: bool = False,
    ) -> Policy:
        """The model that a node's `folder` holds, on the GPU if there is one; frozen (no gradient, eval mode) unless `train`.

        numerics   dtypes, attention, what is recomputed
        sampling   options of a kind's `sampling`, of which the family takes what it knows; None: nobody will sample
        batch      rows at once where it samples
        weights    only of a family whose ENGINES are more than the torch model: False where one of them samples and nobody else computes

        Raises UserError for a folder that holds no such model, NotFinite for weights that are no numbers.
        """

    @abstractmethod
    def save(self, policy: Policy, folder: Path) -> None:
        """Write the model so that `policy` can load it: equal weights give equal bytes. Called by all processes of a step."""

    @abstractmethod
    def require_same(self, policy: Policy, other: Policy, where: str, role: str) -> None:
        """Raises UserError (naming `where`, the other's folder, and its `role`) unless both make the same decisions of the same
        rows, so that their distributions can be compared. `policy` is of this family, `other` perhaps not.
        """

    def reading(self, place: Path) -> Any:
        """What tells without weights how many tokens a context that is no text is (`tokens`), of a checkpoint's own folder; None: no
        room of theirs is measured before they are read."""
        return None

    def identity(self, policy: Policy) -> dict:
        """Facts of what is made by or with this model (trained nodes, rollouts): those that read both must find them equal."""
        return {}

    def weights(self, folder: Path) -> dict[str, Tensor]:
        """Parameters of a folder's model by name, fp32, whole."""
        return dict(self.policy(folder).model.named_parameters())


def described(policy: Policy) -> dict:
    """What a manifest says of a model: its family, and who it is."""
    return {"family": named(policy.family), **policy.family.identity(policy)}


def named(plug: Any) -> dict:
    """The options that a plug was built from (config.plugs.load): what a manifest says of it."""
    name = type(plug).__module__.rpartition(".")[2]
    values = {f.name: getattr(plug, f.name) for f in fields(plug)}
    return {"name": name} | {key: named(value) if is_dataclass(value) else value for key, value in values.items()}
