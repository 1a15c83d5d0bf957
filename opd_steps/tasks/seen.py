"""What worlds of pictures and videos share. Who only writes their rows needs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from opd_steps.store.artifacts import Job

PLAINLY = {"hints": {"name": "none"}, "chat": False, "system": None, "template": {}, "bos": "auto"}


def asked(job: Job) -> dict:
    """Facts of a task whose questions stand beside pictures as the family's template says, and are judged by the node's verifier."""
    return {"verifier": job.options["verifier"], **PLAINLY}


def grown(image_CHW: Tensor, times: int) -> Tensor:
    """Each pixel as times x times pixels."""
    return image_CHW.repeat_interleave(times, -1).repeat_interleave(times, -2)
