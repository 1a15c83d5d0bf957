r"""The spellings of numbers - LaTeX, Unicode, separators - written plainly: `\frac{1}{2}` as 1/2, `1\,000` as 1,000."""

from __future__ import annotations

import re
import unicodedata

_SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_ALIKE = str.maketrans(
    dict.fromkeys("\u2212\ufe63\uff0d\u2013\u2010\u2011", "-")  # minus, small and full-width hyphen, en dash, hyphens
    | dict.fromkeys("\u2044\u2215\uff0f", "/")
    | dict.fromkeys("·⋅∙✕✖", "×")
    | dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff", None)  # of no width
)
_GROUP = r"(?=[0-9]{3}(?![0-9]))"  # behind a separator of thousands
_THIN = re.compile(rf"(?<=[0-9])[\u00a0\u2002-\u200a\u202f'\u2019_]{_GROUP}")

_LATEX = [
    (re.compile(pattern), instead)
    for pattern, instead in (
        (rf"(?<=[0-9])(?:\{{,\}}|,\\!|\\[,!;: ]|~){_GROUP}", ","),  # 1{,}000 1,\!000 1\,000
        (r"\\[,!;: ]|\\q?quad\b|~", " "),
        (r"\\left|\\right(?!arrow)|\\displaystyle|\\[()\[\]]", " "),
        (r"\\([%$#&_])", r"\1"),
        (r"\^\s*\{?\s*\\circ\s*\}?|\\degree", "°"),
        (r"\\(?:times|cdot)(?![a-zA-Z])", "×"),
        (r"\\approx", "≈"),
        (r"\\(?:text(?:bf|it|rm|sf)?|mathrm|mathbf|mbox|hbox|operatorname)\s*\{([^{}]*)\}", r" \1"),
        (r"\\[dtc]?frac\s*\{\s*(-?[0-9.,]+)\s*\}\s*\{\s*([0-9.,]+)\s*\}", r"\\f\1/\2"),
        (r"\\[dtc]?frac\s*\{\s*(-?[0-9.,]+)\s*\}\s*([0-9])", r"\\f\1/\2"),
        (r"\\[dtc]?frac\s*([0-9])\s*(?:\{\s*([0-9.,]+)\s*\}|([0-9]))", r"\\f\1/\2\3"),
        (r"(?<=[0-9])\s*\\f(?=[0-9])", " "),  # a mixed number
        (r"\\f(?=[-0-9.])", ""),
    )
]
_EXPONENT = re.compile(r"\^\s?(?:\{\s?([-+]?[0-9]+)\s?\}|\(\s?([-+]?[0-9]+)\s?\))")
# a minus and a space are a sign where no left operand can stand; at the start of a later line they are a bullet
_LOOSE_MINUS = re.compile(r"(\A\s*|[=≈(\[{:#]\*{0,2}\s{0,4}|\b(?:is|are|be)\s{1,4})-\s{1,4}(?=[0-9.])")


def plain(text: str) -> str:
    """The text with every number's spelling reduced to digits and , . / ^ × e - +; currency signs are dropped."""
    if not text.isascii():
        text = _of_ascii(text)
    text = _THIN.sub(",", text)
    if "\\" in text or "{" in text or "~" in text:
        for pattern, instead in _LATEX:
            text = pattern.sub(instead, text)
    text = re.sub(r"[$€£¥₹]", "", text)
    text = re.sub(r"(?<=[0-9])\*\*(?=[-+]?[0-9])", "^", text)
    text = _EXPONENT.sub(r"^\1\2", text)
    return _LOOSE_MINUS.sub(r"\1-", text)


def _of_ascii(text: str) -> str:
    text = "".join(str(unicodedata.decimal(c)) if c > "\x7f" and c.isdecimal() else c for c in text)
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+", lambda found: "^" + found[0].translate(_SUPERSCRIPT), text)
    text = re.sub(r"(?<=[0-9])(?=[¼-¾⅐-⅞])", " ", text)  # 1½ is a mixed number
    text = _THIN.sub(",", text.translate(_ALIKE))
    return unicodedata.normalize("NFKC", text).translate(_ALIKE)  # full-width forms; ½ has become 1⁄2
