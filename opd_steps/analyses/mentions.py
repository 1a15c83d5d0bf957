from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from opd_steps.analyses import Analysis
from opd_steps.analyses._context import Context


@dataclass(frozen=True)
class Mentions(Analysis):
    """Does a model speak of what only its teacher saw? Share of its own samples, asked plainly, that hold one of `phrases`: the marks or
    the words that introduce a solution (the leak of privileged self-distillation: SDFT, arXiv 2601.19897; RLSD, 2604.03128).
    """

    NEEDS: ClassVar[tuple[str, ...]] = ("data",)
    METRICS: ClassVar[tuple[str, ...]] = ("mentions/share",)

    phrases: list[str] = field(default_factory=list)

    def measure(self, ctx: Context) -> dict[str, float | None]:
        texts = ctx.pool.show(ctx.rollouts())
        return {"mentions/share": sum(any(phrase in text for phrase in self.phrases) for text in texts) / len(texts)}
