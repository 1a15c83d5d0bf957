"""A split of initial states of LIBERO, played look by look by as many simulators as run at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from opd_steps.errors import UserError
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.seeds import derive
from opd_steps.tasks import libero
from opd_steps.tasks.episodes import Episodes, shared

if TYPE_CHECKING:
    from opd_steps.models.families.vla import VLA
    from opd_steps.models.vla_policy import VLAPolicy

DIMS = 7  # a motion: place, rotation, gripper
FRAMES, FILMED = 10, 64  # of a film at most; their side in pixels


class LiberoPool(Episodes):
    """`rows`: of a split's file; settle, side and at_once as the world has them (worlds.libero).

    Column of an episode beside the policy's own: extra["end"] [3, side, side], what was seen last.
    """

    def __init__(self, rows: list[dict], settle: int, side: int, at_once: int, family: VLA, place: str):
        if (found := getattr(family, "dims", 0)) != DIMS:
            raise UserError(place, f"its arm has {DIMS} motors: expected a policy of so many dims, found {found}")
        self.data, self.settle, self.side, self.at_once = rows, settle, side, at_once

    def contexts(self, ids: Sequence[int]) -> list[dict]:
        """Of episodes that have not begun: what is seen of them, only a simulator can tell."""
        return [{"prompt": self.data[i]["prompt"]} for i in ids]

    def rewards(self, rows: Trajectory) -> list[float]:
        raise NotImplementedError("an episode is judged while it is played")

    def play(self, policy: VLAPolicy, ids: Sequence[int], seeds: Sequence[int], version: int = 0) -> Trajectory:
        """As all of `Pool`; what happens depends on the motions alone."""

        def played(mine: list[int], chance: list[int]) -> Trajectory:
            parts = (slice(i, i + self.at_once) for i in range(0, len(mine), self.at_once))
            return Trajectory.concat([self._episodes(policy, mine[part], chance[part], version) for part in parts])

        return shared(played, policy, ids, seeds)

    def _episodes(self, policy: VLAPolicy, ids: list[int], seeds: list[int], version: int) -> Trajectory:
        rows = [self.data[i] for i in ids]
        begin = (("begin", row["suite"], row["number"], row["state"], self.settle, self.side) for row in rows)
        image = {w: torch.from_numpy(seen) for w, seen in libero.simulators.ask(dict(enumerate(begin))).items()}
        parts: list[list[Trajectory]] = [[] for _ in ids]
        reached = [False for _ in ids]
        for t in range(policy.horizon):
            going = [w for w, done in enumerate(reached) if not done]
            if not going:
                break
            now = [{"prompt": rows[w]["prompt"], "image": image[w]} for w in going]
            said = policy.rollout(now, [ids[w] for w in going], [derive(seeds[w], t) for w in going], version)
            found = libero.simulators.ask({w: ("act", policy.motions(said.actions[k])) for k, w in enumerate(going)})
            for k, w in enumerate(going):
                seen, done, reached[w] = found[w]
                image[w], count = torch.from_numpy(seen), done * DIMS
                row = said.rows([k])
                parts[w].append(row.with_columns(actions=[row.actions[0][:count]], logp=[row.logp[0][:count]]))
        join = lambda of: [torch.cat([of(part) for part in row]) for row in parts]
        return Trajectory(
            self.contexts(ids),
            join(lambda p: p.actions[0]),
            torch.tensor(ids),
            join(lambda p: p.logp[0]),
            torch.tensor(reached, dtype=torch.float32),
            torch.full((len(ids),), version),
            torch.tensor(reached),
            {"seen": join(lambda p: p.extra["seen"][0]), "end": [image[w] for w in range(len(ids))]},
        )

    def show(self, rows: Trajectory) -> list[str]:
        each = zip(rows.prompt_B.tolist(), rows.length_B.tolist(), rows.ended_B.tolist(), strict=True)
        return [
            f"{self.data[i]['prompt']}: {'done' if done else 'not done'} in {tokens // DIMS} motions"
            for i, tokens, done in each
        ]

    def film(self, rows: Trajectory) -> list[Tensor]:
        """What was seen of each episode, its end included, small, [at most FRAMES, 3, FILMED, FILMED] uint8."""
        return [_small(torch.cat([seen, end[None]])) for seen, end in zip(rows.extra["seen"], rows.extra["end"], strict=True)]


def _small(image_TCHW: Tensor) -> Tensor:
    at = torch.linspace(0, len(image_TCHW) - 1, min(FRAMES, len(image_TCHW))).round().long()
    return interpolate(image_TCHW[at].float(), (FILMED, FILMED), mode="area").round().to(torch.uint8)
