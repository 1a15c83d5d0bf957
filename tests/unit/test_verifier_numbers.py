"""Numbers in every spelling are read back exactly, and a wrong number never scores."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from opd_steps.tasks.verifiers.numeric import Numeric

FULL_WIDTH = str.maketrans("0123456789,.-", "０１２３４５６７８９，．－")
SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")

GROUPED = [
    lambda text, mark=mark: text.replace(",", mark)
    for mark in (",", "\u2009", "\u202f", "\u00a0", "_", "'", "\u2019", "\\,", "{,}", ",\\!", "")
]
SIGNED = [str, lambda t: t.replace("-", "\u2212"), lambda t: t.replace("-", "- "), lambda t: t.translate(FULL_WIDTH)]
UNITS = ["{}", "${}", "\\${}", "{}%", "{}\\%", "{} apples", "{} cm^2", "{}\\text{{ m}}", "{}^\\circ", "{} km/h", "{}."]
PLACES = [
    "{}",
    "So we get x = {}",
    "#### {}",
    "#### {}\nThat took 3 steps.",
    "1 + 1 = 2\n#### {} (see step 2)",
    "\\boxed{{{}}} is it, after 3 steps",
    "$x = \\boxed{{x = {}}}$",
    "The answer is {} in 3 steps",
    "**Answer:** {}\n2 more lines",
    "<think>is it 7?</think>\\boxed{{{}}}",
]


@st.composite
def integers(draw) -> tuple[Fraction, str]:
    value = draw(st.integers(-(10**12), 10**12))
    return Fraction(value), draw(st.sampled_from(SIGNED))(draw(st.sampled_from(GROUPED))(f"{value:,}"))


@st.composite
def decimals(draw) -> tuple[Fraction, str]:
    value = draw(st.decimals(-(10**6), 10**6, places=draw(st.integers(1, 6))))
    return Fraction(value), draw(st.sampled_from(SIGNED))(draw(st.sampled_from(GROUPED))(f"{value:,f}"))


@st.composite
def fractions(draw) -> tuple[Fraction, str]:
    value = draw(st.fractions(-1000, 1000, max_denominator=999))
    sign, top, bottom = "-" * (value < 0), abs(value.numerator), value.denominator
    spellings = [f"{sign}{top}/{bottom}", f"{sign}\\frac{{{top}}}{{{bottom}}}", f"{sign}\\dfrac{{{top}}}{{{bottom}}}"]
    if top > bottom > 1:
        whole, rest = divmod(top, bottom)
        spellings += [f"{sign}{whole} {rest}/{bottom}", f"{sign}{whole}\\frac{{{rest}}}{{{bottom}}}"]
    if top < 10 > bottom:
        spellings.append(f"{sign}\\frac{top}{bottom}")
    return value, draw(st.sampled_from(spellings))


@st.composite
def powers_of_ten(draw) -> tuple[Fraction, str]:
    mantissa, power = draw(st.decimals(-10, 10, places=2)), draw(st.integers(-20, 20))
    times = draw(
        st.sampled_from([" \\times 10^{{{}}}", "\\cdot 10^{{{}}}", "×10^{}", " x 10^({})", "e{}", "E{:+d}", "*10**{}"])
    )
    text = f"{mantissa}{times.format(power)}"
    superscript = f"{mantissa} × 10{str(power).translate(SUPERSCRIPT)}"
    return Fraction(mantissa) * Fraction(10) ** power, draw(st.sampled_from([text, superscript]))


NUMBERS = st.one_of(integers(), decimals(), fractions(), powers_of_ten())


@given(NUMBERS, st.sampled_from(UNITS), st.sampled_from(PLACES))
def test_every_spelling_is_read_back(number, unit, place):
    value, text = number
    assert Numeric().score(place.format(unit.format(text)), str(value)) == 1.0


@given(NUMBERS, NUMBERS, st.sampled_from(UNITS), st.sampled_from(PLACES))
def test_a_wrong_number_never_scores(number, gold, unit, place):
    assume(number[0] != gold[0])
    assert Numeric().score(place.format(unit.format(number[1])), str(gold[0])) == 0.0


@given(NUMBERS)
def test_a_gold_in_any_spelling_is_read_whole(number):
    value, text = number
    assert Numeric().unreadable(text) == "" and Numeric().score(f"#### {value}", text) == 1.0


@given(st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False)))
def test_a_gold_as_json_writes_it_is_read_and_scores_against_itself(value):
    text = str(json.loads(json.dumps(value)))
    assume(len(text) < 4000)
    assert Numeric().unreadable(text) == "" and Numeric().score(text, text) == 1.0
    assert Numeric().score(f"#### {text}", str(Fraction(value) + 1)) == 0.0


@pytest.mark.parametrize(
    "gold",
    [
        "10:30",
        "2^10",
        "1/0",
        "nan",
        "inf",
        "-inf",
        "seven",
        "1.2.3",
        "3,4",
        "1,2345",
        "5x",
        "3+4",
        "2\\sqrt{3}",
        "(1,2)",
        "1e999999999",
        "12-5",
    ],
)
def test_what_is_not_one_number_is_no_gold(gold):
    assert "no number" in Numeric().unreadable(gold)
    assert Numeric().score(gold, gold) == 0.0


@pytest.mark.parametrize("gold", ["", " ", "1 2", "3 or 4", "5 apples", "about 5", "#### ", "\\boxed{", "9" * 20_000])
def test_neither_are_texts_around_one(gold):
    assert "no number" in Numeric().unreadable(gold)


@pytest.mark.parametrize("gold", ["42", "42.", "042", "$42", "42%", "4.2e1", "#### 42", "6*7 = 42\n#### 42", "\\boxed{42}"])
def test_spellings_of_a_gold(gold):
    assert Numeric().score("42", gold) == 1.0


PIECES = [
    "####",
    "\\boxed{",
    "}",
    "\\frac",
    "<think>",
    "</think>",
    "answer is",
    "10:30",
    "^",
    "**",
    "e",
    "/",
    "-",
    " ",
    "9",
    "1,000",
    ".",
]


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=3))).map("".join), st.integers())
def test_any_text_has_a_verdict(text, number):
    assert Numeric().score(text, str(number)) in (0.0, 1.0)
    assert Numeric().score(text, text) in (0.0, 1.0)


@pytest.mark.parametrize("piece", [*PIECES, "#### 1", "answer ", "= ", "1+1=", "\\text{", "(", "{", "ab ", "1/"])
def test_long_texts_are_read_in_linear_time(piece):
    """Quadratic time would be minutes here."""
    text = piece * (200_000 // len(piece))
    assert Numeric().score(text, "12345") == 0.0
    assert Numeric().score(f"\\boxed{{{text}}}", "12345") == 0.0
    assert Numeric().score("9" * 5000, "9" * 5000) == 1.0
