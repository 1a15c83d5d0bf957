"""A node's transformers model as a step needs it: frozen or with gradients, whole or cut among processes, with an adapter where one is
trained.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import AutoModelForCausalLM, PreTrainedModel

from opd_steps.models.bases import ADAPTER, stacked
from opd_steps.models.folder import MODEL, load_model, save_model, where
from opd_steps.models.hollow import fill, hollow_model
from opd_steps.models.numerics import Numerics, dtype_of, recompute_blocks
from opd_steps.process import ranks

if TYPE_CHECKING:
    from opd_steps.models.bases import Tuning
    from opd_steps.models.lm_policy import LMPolicy


def ready_model(
    folder: Path,
    numerics: Numerics,
    train: bool,
    tuning: Tuning | None,
    auto: type = AutoModelForCausalLM,
    own_code: bool = False,
) -> PreTrainedModel:
    """The model that a node's `folder` holds. `auto`: transformers' class that knows such models; `own_code`: run what the checkpoint
    brings. Raises UserError, NotFinite."""
    how = {"dtype": numerics.weights, "attention": numerics.attention, "auto": auto, "own_code": own_code}
    plain = tuning is None and not stacked(folder)  # only such are loaded shard by shard
    hollow = hollow_model(where(folder), **how) if plain and ranks.world() > 1 else None
    model = (hollow or load_model(folder, **how)).requires_grad_(train)
    if tuning:
        tuning.plug.adapt(model, tuning.seed)
    if numerics.recompute and train:
        recompute_blocks(model)
    model = ranks.shard(model, dtype_of(numerics.compute))
    if hollow:
        fill(model, where(folder))
    return model


def publish(policy: LMPolicy, folder: Path) -> None:
    """Write a policy's model with its tokenizer; of an adapter it alone, and what it stands on."""
    if policy.base is None:
        save_model(policy.model, policy.tokenizer, folder / MODEL, policy.numerics.published)
    else:
        publish_adapter(policy, folder)


def publish_adapter(policy: Any, folder: Path) -> None:
    """Write what was trained beside a policy's model, and which node's that is."""
    from opd_steps.models.adapters import save_adapter  # peft takes a second to import

    save_adapter(policy.model, folder / ADAPTER)
    if ranks.first():
        policy.base.write(folder)
