"""Names by which verl asks how much of the teacher's words to fetch. verl loads this module in every process
(VERL_USE_EXTERNAL_MODULES), as each of them reads its configuration."""

from __future__ import annotations

from verl.trainer.distillation.losses import DistillationLossSettings, register_distillation_loss


@register_distillation_loss(DistillationLossSettings(names=["distillery_top"], use_topk=True))
@register_distillation_loss(DistillationLossSettings(names=["distillery_sampled"], use_estimator=True))
def _elsewhere(*_, **__):
    raise RuntimeError("the loss comes by set_loss_fn (opd_steps.verl.loss)")
