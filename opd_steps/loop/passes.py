"""Which rows of a batch go through the models in one forward and backward pass."""

from __future__ import annotations

from dataclasses import dataclass

from opd_steps.nouns.heard import read_over
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.process import ranks


@dataclass(frozen=True)
class Tokens:
    """Rows of like length, together at most `most` tokens; a row that is longer by itself. `packed`: nobody pads them, so that only their
    own tokens count."""

    most: int
    packed: bool = False


def passes(rows: Trajectory, size: int | Tokens) -> tuple[list[int] | None, list[slice]]:
    """An order of the rows (None: their own), and this rank's slices of the rows in that order. `size`: that of a pass, in rows or tokens.

    Slices of ranks in order make the whole batch in order, and each rank has as many, for each costs all of them a forward and a
    backward pass: a last one may be empty.
    """
    if isinstance(size, int):
        return None, ranks.micro_batches(len(rows), size)
    together = _together(read_over(rows), size)
    shares = [together[rank :: ranks.world()] for rank in range(ranks.world())]  # neighbours, which are alike, at the same time
    order = [row for share in shares for picks in share for row in picks]
    at = sum(len(picks) for share in shares[: ranks.rank()] for picks in share)
    slices = []
    for k in range(len(shares[0])):
        mine = shares[ranks.rank()]
        count = len(mine[k]) if k < len(mine) else 0
        slices.append(slice(at, at + count))
        at += count
    return order, slices


def _together(length_B: list[int], size: Tokens) -> list[list[int]]:
    """Row numbers, pass by pass, from the longest row on."""
    found: list[list[int]] = []
    held = 0
    for row in sorted(range(len(length_B)), key=lambda row: -length_B[row]):
        more = length_B[row] if size.packed or not found else length_B[found[-1][0]]  # padded to the longest, the first
        if not found or held + more > size.most:
            found.append([])
            held, more = 0, length_B[row]
        found[-1].append(row)
        held += more
    return found
