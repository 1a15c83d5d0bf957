"""Writes docs/claims.md, or another page like it, from a report's claims.json.

python -m tests.claims_table results/report/claims.json --date 2026-11-21 --commit abc1234
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from pathlib import Path

from omegaconf import OmegaConf

from opd_steps.config.load import self_contained

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/claims.md"
MARKS = {
    "holds": "**holds**",
    "does not hold": "*does not hold*",
    "not enough evidence": "open",
    "not testable here": "not testable here",
    "not measured": "not measured",
}

TITLE = "Every paper's claims on the tiny models"
HEAD = """# {title}

`snakemake all --config papers={papers} seeds={seeds}`, {date}, commit `{commit}`. {note}

{total}

{chance}

A claim compares two figures, paired by seed: it *holds* when the 95 % interval of the difference (Student's t) lies on the claimed side,
*does not hold* when it lies on the other, else it is *open*: not enough evidence. With a margin, = holds when the interval lies within it and
does not when it lies outside, and >= and &lt;= shift the border by it. Those marked *sign* are judged by the exact sign test, which needs
six seeds. What a claim requires was written down before the run; where it is not met, the claim is *not testable here*, with the figure.
✓ marks what survives a correction for the number of claims (Benjamini-Hochberg at 5 %; claims share models, so take it as a guide).

*These checkpoints* asks less: at how many seeds the two models differ on the prompts that they were asked (paired bootstrap, 95 %: of
models that are equal, five pairs in a hundred would be told apart). It says that these two models differ, not that the method is better.
Means over seeds stand beside each side. *Same contract* is {same}: a direction that does not show here says nothing about the paper's own
scale. *Reported* is the paper's own figure, where our notes have it.

"""


CHANCE = """{tested} claims are tested, {decided} of them decided. If every true difference lay at its border (0, where no margin is given),
about {by_chance:.1f} would be decided by chance alone; {survive} survive a correction for that."""


def page(found: dict, date: str, commit: str, note: str, title: str = TITLE) -> str:
    """The page: a count, then a table for each paper."""
    claims = found["claims"]
    count = Counter(claim["direction"]["verdict"] for claim in claims)
    seeds = f"[{','.join(map(str, found['seeds']))}]"
    decided = ", ".join(f"{n} {verdict}" for verdict, n in count.most_common())
    total = f"{len(claims)} claims of {len(found['papers'])} papers: {decided}."
    same = sum(claim["same_contract"] for claim in claims)
    same = f"yes for {same} of them" if same else "no for all of them"
    whole = set(found["papers"]) >= {*self_contained()}
    head = {
        "title": title,
        "papers": "all" if whole else "[<those below>]",
        "seeds": seeds,
        "date": date,
        "commit": commit,
        "note": note,
        "total": total,
        "same": same,
    }
    lines = HEAD.format(**head, chance=CHANCE.format(**found["chance"])).splitlines()
    by_paper = defaultdict(list)
    for claim in claims:
        by_paper[claim["paper"]].append(claim)
    for paper in sorted(by_paper):
        title = OmegaConf.load(ROOT / f"workflow/papers/{paper}.yaml").paper.title
        verdicts = Counter(claim["direction"]["verdict"] for claim in by_paper[paper])
        lines += [f"## [{paper}](../workflow/papers/{paper}.yaml): {title}", ""]
        lines += [", ".join(f"{n} {verdict}" for verdict, n in verdicts.most_common()) + ".", ""]
        lines += [
            "| claim | left | right | verdict | effect [95 % interval] | seeds | these checkpoints | reported | what differs |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        lines += [_row(claim) for claim in by_paper[paper]] + [""]
        lines += _required(by_paper[paper])
    return "\n".join(lines).rstrip() + "\n"


def _row(claim: dict) -> str:
    said, sides = claim["direction"], claim["seeds"].values()
    mean = lambda side: (
        sum(v) / len(v) if (v := [s[side]["value"] for s in sides if side in s and s[side]["value"] is not None]) else None
    )
    left, right = mean("left"), mean("right")
    right = f"`{claim['right']}` {right:.3g}" if right is not None else claim["right"]
    effect = "–" if said["effect"] is None else f"{said['effect']:.3g}"
    if said["interval"]:
        effect += " [{:.3g}, {:.3g}]".format(*said["interval"])
    if claim["test"] == "sign":
        effect += " (sign)"
    unmet = [needed["says"] for needed in claim["requires"] if not needed["met"]]
    counts = (claim["these_checkpoints"] or {"counts": {}})["counts"]
    values = f"`{claim['left']}`" + (f" {left:.3g}" if left is not None else "")
    cells = [
        claim["says"],
        values,
        f"{claim['op']} {right}{_allowed(claim)}",
        MARKS[said["verdict"]] + " ✓" * claim["survives"] + "".join(f"; {says}" for says in unmet),
        effect,
        str(said["n"]),
        ", ".join(f"{verdict}: {n}" for verdict, n in counts.items()) or "–",
        claim["reported"] or "–",
        "; ".join([claim["differs"] or "–", *map(_unequal, claim["unequal"])]).removeprefix("–; "),
    ]
    return "| " + " | ".join(cell.replace("|", "∣").replace("<", "&lt;") for cell in cells) + " |"


def _unequal(side: dict) -> str:
    """In what the two sides of a claim are not equal, and why."""
    return f"unequal {side['what']}: {side['left']} against {side['right']} ({side['why'] or 'not named by the claim'})"


def _allowed(claim: dict) -> str:
    """What a margin allows: "± 0.02"."""
    return claim["states"].removeprefix(f"{claim['left']} {claim['op']} {claim['right']}")


def _required(claims: list[dict]) -> list[str]:
    """A line for each precondition of a paper's claims."""
    needs = {needed["name"]: needed for claim in claims for needed in claim["requires"]}
    met = {True: "met", False: "not met", None: "not measured"}
    lines = [f"- {n['name']} ({met[n['met']]}): {n['says']}; {n['why']}".replace("<", "&lt;") for n in needs.values()]
    return ["What the claims require:", "", *lines, ""] if lines else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("claims", type=Path)
    parser.add_argument("--date", required=True)
    parser.add_argument("--commit", required=True)
    parser.add_argument("--note", default="")
    parser.add_argument("--title", default=TITLE)
    parser.add_argument("--page", type=Path, default=PAGE)
    args = parser.parse_args()
    args.page.write_text(page(json.loads(args.claims.read_text()), args.date, args.commit, args.note, args.title))


if __name__ == "__main__":
    main()
