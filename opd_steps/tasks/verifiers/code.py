"""A program that passes its tests."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from opd_steps.tasks.sandbox.judge import Limits, Trial, verdicts
from opd_steps.tasks.thoughts import after_thought
from opd_steps.tasks.verifiers import Verifier

_BLOCK = re.compile(r"^```[^\n`]*\n(.*?)(?:^```|\Z)", re.MULTILINE | re.DOTALL)
_NEXT = re.compile(r"^(?=[^\s)\]}])", re.MULTILINE)  # what is not indented is no part of a function's body
_KEYS = ("prompt", "function", "solution", "tests")


@dataclass(frozen=True)
class Code(Verifier):
    """1 if the Python function that a completion writes passes the answer's tests, in a sandbox (tasks/sandbox), else 0.

    The answer is JSON with `prompt` (text of Python up to the function's body), `function` (its name), `solution` (a right body) and
    `tests` (a text that defines `check(candidate)`), as the source `humaneval` writes it. A completion goes on from the prompt, up to
    the first line that is not indented (arXiv 2107.03374), or is the whole function; of blocks between ``` the last that defines it
    counts, else the last. A thought (`<think>`) is not read, and one that never ended scores 0.

    What passes between tests and function are plain values: numbers, texts, None, and lists, tuples, sets, dicts and iterators of
    these. A function that returns anything else, or changes what it was given, is not seen to.
    """

    AT_ONCE: ClassVar[bool] = True

    timeout: Annotated[int, "at least 1"] = 3  # seconds of CPU time for all tests of a completion
    memory_mb: Annotated[int, "at least 64"] = 512  # of address space

    def score(self, completion: str, answer: str) -> float:
        return self._passes([completion], [answer])[0]

    def judge(self, completions: Sequence[str], rows: Sequence[Mapping]) -> list[float]:
        return self._passes(completions, [row["answer"] for row in rows])

    def unreadable(self, answer: str) -> str:
        try:
            said = json.loads(answer)
            task = [said[key] for key in _KEYS]
            if not all(isinstance(text, str) for text in task):
                return "is no task in Python: expected texts"
            compile(said["prompt"] + said["solution"], "solution", "exec")
            compile(said["tests"], "tests", "exec")
        except (ValueError, KeyError, TypeError):
            return f"is no task in Python: expected JSON with {', '.join(_KEYS)}"
        except SyntaxError as error:
            return f"is no Python: {error.msg} in its {error.filename}, line {error.lineno}"
        if not re.search(r"^def check\(", said["tests"], re.MULTILINE):
            return "has tests that define no check(candidate)"
        return "" if _defines(said["prompt"], said["function"]) else f"has a prompt that does not begin {said['function']}"

    def _passes(self, completions: Sequence[str], answers: Sequence[str]) -> list[float]:
        tasks = [json.loads(answer) for answer in answers]
        programs = [program(text, task) for text, task in zip(completions, tasks, strict=True)]
        asked = [i for i, text in enumerate(programs) if text is not None]
        limits = Limits(self.timeout, self.memory_mb << 20)
        found = dict(zip(asked, verdicts([_trial(programs[i], tasks[i]) for i in asked], limits), strict=True))
        return [float(found.get(i, False)) for i in range(len(completions))]


def program(completion: str, task: Mapping[str, str]) -> str | None:
    """The program that a completion makes of the task's prompt; None where it makes none."""
    text = after_thought(completion)
    if text is None:
        return None
    blocks = _BLOCK.findall(text)
    whole = [block for block in blocks if _defines(block, task["function"])]
    text = (whole or blocks or [text])[-1]
    if whole or (_defines(text, task["function"]) and not text.lstrip("\r\n")[:1].isspace()):
        before = task["prompt"][: _definition(task["function"]).search(task["prompt"]).start()]
        return f"{before}\n{text}"
    return task["prompt"] + _body(text)


def _body(text: str) -> str:
    """What stands of a text before its first line that is not indented, but for the rest of the line on which it begins."""
    first, _, rest = text.partition("\n")
    end = _NEXT.search(rest)
    return f"{first}\n{rest[: end.start()] if end else rest}"


def _trial(text: str, task: Mapping[str, str]) -> Trial:
    return Trial(text, task["function"], task["prompt"] + task["solution"], task["tests"])


def _defines(text: str, function: str) -> bool:
    return _definition(function).search(text) is not None


def _definition(function: str) -> re.Pattern:
    return re.compile(rf"^def\s+{re.escape(function)}\s*\(", re.MULTILINE)
