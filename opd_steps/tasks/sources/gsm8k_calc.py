"""The arithmetic of GSM8K: its calculator annotations as a task of its own, real data that tiny models can learn."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Annotated, ClassVar, Literal

from opd_steps.tasks.gsm8k import ANNOTATION, load
from opd_steps.tasks.records import Records
from opd_steps.tasks.rows import row, splits
from opd_steps.tasks.sources import Source

_OPERATORS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}


@dataclass(frozen=True)
class Gsm8kCalc(Source):
    """Prompt `48/2=`, solution `24`; with more than two operands one step after another: `2+3*4=` gives `3*4=12;2+12=14`.

    Each distinct expression is one row, in order of appearance; annotations that are not right (rounded, say) are left out.
    Train comes from the train split alone; test is every expression of the test split that does not stand in train.
    There is no ood split. Check answers with `numeric`.
    """

    CHECKS: ClassVar[tuple[str, ...]] = ("len(operators) >= 1",)

    path: str = "openai/gsm8k"  # hub id, or a folder with train.jsonl and test.jsonl
    max_chars: Annotated[int, "at least 1"] = 12  # of an expression
    max_operands: Annotated[int, "0 or at least 2"] = 0  # 0 = any
    max_number: Annotated[int, "at least 0"] = 0  # largest number in prompt and solution; 0 = any
    integers_only: bool = True  # operands, steps and result
    operators: list[Literal["+", "-", "*", "/"]] = field(default_factory=lambda: ["+", "-", "*", "/"])
    train: Annotated[int, "at least 0"] = 0  # first rows of the split; 0 = all
    test: Annotated[int, "at least 0"] = 0

    def rows(self, seed: int) -> dict[str, list[dict]]:
        found = load(self.path)
        train = self._expressions(found["train"])
        test = self._expressions(found["test"]) if "test" in found else {}
        new = [r for expression, r in test.items() if expression not in train]
        return splits(list(train.values())[: self.train or None], new[: self.test or None])

    def _expressions(self, records: Records) -> dict[str, dict]:
        out: dict[str, dict] = {}
        for i in range(len(records.rows)):
            for expression, value in ANNOTATION.findall(records.column(i, "answer")):
                expression, value = expression.replace(" ", ""), value.replace(" ", "")
                if expression not in out and (made := self._row(expression, value)):
                    out[expression] = made
        return out

    def _row(self, expression: str, value: str) -> dict | None:
        if len(expression) > self.max_chars:
            return None
        try:
            steps, numbers = calculate(expression)
            stated = Fraction(value)
        except (ValueError, ZeroDivisionError):
            return None
        if not steps or numbers[-1] != stated or any(op not in self.operators for op, _ in steps):
            return None
        if self.max_operands and len(steps) + 1 > self.max_operands:
            return None
        if self.integers_only and any(n.denominator != 1 for n in numbers):
            return None
        if self.max_number and any(abs(n) > self.max_number for n in numbers):
            return None
        answer = write(numbers[-1])
        solution = answer if len(steps) == 1 else ";".join(text for _, text in steps)
        return row(expression + "=", answer, solution, operands=len(steps) + 1, operators=[op for op, _ in steps])


def calculate(expression: str) -> tuple[list[tuple[str, str]], list[Fraction]]:
    """((operator, `a+b=c`) of each step in order of precedence, all numbers met; the result is the last).

    Raises ValueError on anything but + - * / of finite decimals, ZeroDivisionError.
    """
    steps: list[tuple[str, str]] = []
    numbers: list[Fraction] = []

    def value(node: ast.expr) -> Fraction:
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            number = Fraction(ast.get_source_segment(expression, node))
        elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            left, right = value(node.left), value(node.right)
            operator = _OPERATORS[type(node.op)]
            number = {"+": left.__add__, "-": left.__sub__, "*": left.__mul__, "/": left.__truediv__}[operator](right)
            steps.append((operator, f"{write(left)}{operator}{write(right)}={write(number)}"))
        else:
            raise ValueError(f"not plain arithmetic: {expression}")
        numbers.append(number)
        return number

    try:
        value(ast.parse(expression, mode="eval").body)
    except SyntaxError:
        raise ValueError(f"not an expression: {expression}") from None
    return steps, numbers


def write(number: Fraction) -> str:
    """A number as a plain decimal. Raises ValueError when it has no finite one."""
    places = next((p for p in range(13) if (number * 10**p).denominator == 1), None)
    if places is None:
        raise ValueError(f"{number} is not a finite decimal")
    digits = f"{abs(int(number * 10**places)):0{places + 1}d}"
    return ("-" if number < 0 else "") + (f"{digits[:-places]}.{digits[-places:]}" if places else digits)
