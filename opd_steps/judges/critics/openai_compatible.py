"""A language model as critic, behind any server of OpenAI's /v1 protocol: a `vllm serve` on this machine, or a service."""

from __future__ import annotations

import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Annotated, ClassVar

from opd_steps.errors import UserError
from opd_steps.judges.critics import Critic
from opd_steps.judges.critics._rubric import FEWEST, MOST, Criterion, NoRubric, Rubric
from opd_steps.tasks.thoughts import after_thought

MAKE = f"""Compare the reference answers with the candidate answers to the question, and write one rubric: {FEWEST} to {MOST} yes-or-no criteria
on which good and bad answers differ. Each must be decidable on a single answer, hold for a right answer by any method, and demand neither
the wording nor the final answer of the references as such. Reply with JSON alone:
[{{"category": "...", "criterion": "...", "points": 1 to 5}}, ...]"""
CHECK = """Judge each answer to the question on its own by every criterion. Reply with JSON alone: a list with one list of true or false
for each answer, in their order, each with a verdict for every criterion, in their order."""


@dataclass(frozen=True)
class OpenAICompatible(Critic):
    """Rubricator and verifier of ROPD (arXiv 2605.07396), asked at temperature 0. Prompts are ours. A reply that cannot be read is NoRubric.

    Raises UserError where nobody answers at `url`, or the request is refused. What a server replies may differ from run to run.
    """

    CHECKS: ClassVar[tuple[str, ...]] = ("len(model) >= 1",)

    model: str  # as the server calls it
    url: str = "http://localhost:8000/v1"
    key_variable: str = ""  # environment variable that holds the key, if one is asked for
    timeout: Annotated[int, "at least 1"] = 600  # seconds

    def rubric(self, question: str, teacher: Sequence[str], students: Sequence[str]) -> Rubric:
        found = self._ask(MAKE, {"question": question, "references": list(teacher), "candidates": list(students)})
        try:
            return Rubric(tuple(Criterion(str(c["category"]), str(c["criterion"]), c["points"]) for c in found))
        except (KeyError, TypeError) as error:
            raise NoRubric(f"a criterion that is none: {error}") from None

    def verdicts(self, rubric: Rubric, question: str, answers: Sequence[str]) -> list[list[bool]]:
        criteria = [c.text for c in rubric.criteria]
        found = self._ask(CHECK, {"question": question, "criteria": criteria, "answers": list(answers)})
        fits = lambda row: isinstance(row, list) and len(row) == len(criteria) and all(type(v) is bool for v in row)
        if len(found) != len(answers) or not all(map(fits, found)):
            raise NoRubric(f"expected {len(answers)} lists of {len(criteria)} verdicts")
        return found

    def _ask(self, task: str, about: dict) -> list:
        messages = [{"role": "system", "content": task}, {"role": "user", "content": json.dumps(about, ensure_ascii=False)}]
        body = json.dumps({"model": self.model, "messages": messages, "temperature": 0.0}).encode()
        headers = {"Content-Type": "application/json"}
        if self.key_variable:
            headers["Authorization"] = f"Bearer {os.environ.get(self.key_variable, '')}"
        request = urllib.request.Request(f"{self.url.rstrip('/')}/chat/completions", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                said = json.load(answer)["choices"][0]["message"]["content"]
            found = json.loads(re.search(r"\[.*\]", after_thought(said) or "", re.DOTALL)[0])
        except urllib.error.HTTPError as error:
            raise UserError(f"judge {self.url}", f"refuses the request: {error.code} {error.reason}") from None
        except (OSError, HTTPException) as error:
            raise UserError(f"judge {self.url}", f"no judge answers there ({type(error).__name__} {error})") from None
        except (LookupError, TypeError, ValueError) as error:
            raise NoRubric(f"no JSON list in the reply ({type(error).__name__})") from None
        if not isinstance(found, list):
            raise NoRubric("the reply is no list")
        return found
