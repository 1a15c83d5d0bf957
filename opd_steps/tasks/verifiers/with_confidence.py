"""Another verifier, on completions that end in a stated confidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from opd_steps.config.plugs import plug
from opd_steps.tasks import confidence
from opd_steps.tasks.calibration import calibration
from opd_steps.tasks.verifiers import Verifier


@dataclass(frozen=True)
class WithConfidence(Verifier):
    """The score that `of` gives to the completion without its statement of confidence; measures the calibration of all samples.

    `stated` is the share of samples that state a confidence, as the source `stated_confidence` does; the other figures
    (tasks/calibration.py) are over these. Style mark: A..K for 0, .1, ..., 1 at the end. Style words: a last line
    `Confidence: 0.75`.
    """

    METRICS: ClassVar[dict[str, str]] = {
        "stated": "",
        "confidence": "",
        "overconfidence": "",
        "ece": "down",
        "brier": "down",
        "spr": "up",
    }

    of: Any = plug("tasks/verifiers")
    style: Literal["mark", "words"] = "mark"

    @property
    def alphabet(self) -> str:
        every = "".join(confidence.state(i / 10, self.style) for i in range(11)) + "0123456789" * (self.style == "words")
        return "".join(sorted(set(every))) + self.of.alphabet

    def score(self, completion: str, answer: str) -> float:
        return self.of.score(confidence.split(completion, self.style)[0], answer)

    def judge(self, completions: Sequence[str], rows: Sequence[Mapping]) -> list[float]:
        return self.of.judge([confidence.split(completion, self.style)[0] for completion in completions], rows)

    def unreadable(self, answer: str) -> str:
        return self.of.unreadable(answer)

    def confidence(self, completion: str) -> float | None:
        """What the completion states, or None."""
        return confidence.split(completion, self.style)[1]

    def restate(self, completion: str, value: float) -> str:
        """The completion with `value` - to the nearest that the style can state - in place of what it states, or at its end."""
        return confidence.split(completion, self.style)[0] + confidence.state(value, self.style)

    def instruction(self, value: float) -> str:
        """The note that asks a model with privileged context to state `value`; in style mark the restated attempts say it."""
        text = f"Note: The empirical confidence for this question is {value:.2f}. Output this exact value in the 'Confidence:' field."
        return text if self.style == "words" else ""

    def measure(self, completions: Sequence[str], answers: Sequence[str], scores: Sequence[float]) -> dict[str, float]:
        bodies, values = zip(*(confidence.split(text, self.style) for text in completions), strict=True)
        stated = [(value, score) for value, score in zip(values, scores, strict=True) if value is not None]
        return {
            "stated": len(stated) / len(values),
            **calibration([value for value, _ in stated], [score for _, score in stated]),
            **self.of.measure(bodies, answers, scores),
        }
