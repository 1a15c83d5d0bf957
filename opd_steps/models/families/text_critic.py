"""Discriminators of texts: a language model reads a response and says how good it finds each of its segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from opd_steps.config.asks import NOTHING, Asks
from opd_steps.errors import UserError
from opd_steps.models.experts import ExpertHead, imbalance_N
from opd_steps.models.families import Family
from opd_steps.models.folder import MODEL, load_model, load_tokenizer, save_model
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.models.numerics import FP32, Numerics
from opd_steps.models.tokenizers import digest
from opd_steps.nouns.dist import StepDist
from opd_steps.nouns.duel import Duels, Said, both
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.process import ranks

if TYPE_CHECKING:
    from opd_steps.store.artifacts import Job

HEAD = "head.safetensors"


@dataclass(frozen=True)
class TextCritic(Family):
    """The body of a causal language model (`path`, or fresh of `config`), and a head of experts (models/experts.py) that scores the
    last token of each segment, within [-clip, clip] (PRISM, arXiv 2604.28123).

    Its rows are duels (nouns/duel.py): a context holds two responses to one prompt, and decision k, which of them has the better
    segment k, has the log-odds score_k(first) - score_k(second): Bradley-Terry. Of rows of text it says what its body does, as a
    language model that SFT may train before.
    """

    READS: ClassVar[tuple[str, ...]] = ("path", "revision", "architecture", "config", "tokenizer", "data")
    TEXT: ClassVar[bool] = True
    CHECKS: ClassVar[tuple[str, ...]] = ("active <= experts",)

    experts: Annotated[int, "at least 1"] = 4
    active: Annotated[int, "at least 1"] = 2  # experts that read a token
    noise: Annotated[float, "at least 0"] = 0.01
    clip: Annotated[float, "above 0"] = 10.0

    def make(self, job: Job) -> dict:
        from opd_steps.models.made import fresh, linked  # code of model nodes alone (graph/code.py)

        path = job.options["path"]
        facts = fresh(job) if path is None else linked(job, path, job.options["revision"])
        width = load_model(job.stage).get_input_embeddings().weight.shape[1]
        self._write(self._head(width, job.seed), job.stage)
        return facts

    def _head(self, width: int, seed: int = 0) -> ExpertHead:
        return ExpertHead(width, self.experts, self.active, self.noise, seed)

    def _write(self, head: ExpertHead, folder: Path) -> None:
        save_file({name: p.detach().cpu().contiguous() for name, p in head.named_parameters()}, folder / HEAD)

    def policy(
        self,
        folder: Path,
        *,
        numerics: Numerics = FP32,
        sampling: Mapping | None = None,
        batch: int = 256,
        train: bool = False,
    ) -> Critic:
        body, weights = load_model(folder, numerics.weights), load_file(folder / HEAD)
        head = self._head(weights["value_D"].shape[0])
        head.load_state_dict(weights)
        model = nn.ModuleDict({"body": body, "head": head.to(body.device)}).requires_grad_(train)
        return Critic(model, load_tokenizer(folder), self)

    def save(self, policy: Critic, folder: Path) -> None:
        save_model(policy.model["body"], policy.tokenizer, folder / MODEL)
        self._write(policy.model["head"], folder)

    def require_same(self, policy: Critic, other, where: str, role: str) -> None:
        if other.family.identity(other) != self.identity(policy):
            raise UserError(where, f"the {role}'s tokenizer (vocabulary, special tokens or chat template) is not the critic's")

    def identity(self, policy: Critic) -> dict:
        return {"tokenizer": digest(policy.tokenizer)}


class Critic:
    """`model`: a body and a head."""

    def __init__(self, model: nn.ModuleDict, tokenizer, family: TextCritic):
        self.model, self.tokenizer, self.family = model, tokenizer, family
        self.body = LMPolicy(model["body"], tokenizer)

    @property
    def device(self):
        return self.model["body"].device

    def sample_by(self, sampling: dict) -> None:
        """It samples nothing."""

    def scores(self, said: Sequence[Said]) -> tuple[Tensor, Tensor]:
        """(score, imbalance of the experts) of each text's segments, [B, S] both."""
        hidden_BSD = self._read(said)
        score_N, prob_NE = self.model["head"](hidden_BSD.flatten(0, 1).float())
        clip, shape = self.family.clip, hidden_BSD.shape[:2]
        return score_N.clamp(-clip, clip).view(shape), imbalance_N(prob_NE, self.family.active).view(shape)

    def _read(self, said: Sequence[Said]) -> Tensor:
        """Last hidden states at the ends of all segments, [B, S, D]. Padding stands right of everything."""
        rows = [[*each.prompt, *each.tokens] for each in said]
        width, pad_id = max(map(len, rows)), self.tokenizer.pad_token_id
        tokens_BL = torch.tensor([row + [pad_id] * (width - len(row)) for row in rows], device=self.device)
        hidden_BLD, _ = ranks.hidden_states(self.model["body"], tokens_BL)
        at_BS = torch.tensor([[len(each.prompt) + end for end in each.ends] for each in said], device=self.device)
        return hidden_BLD[torch.arange(len(rows), device=self.device)[:, None], at_BS]

    def dist(self, trajectory: Trajectory, role: str = "student", asks: Asks = NOTHING) -> StepDist:
        """Of every segment of each duel, [B S]; of every token of a text."""
        if not isinstance(trajectory.contexts[0], dict):
            return self.body.dist(trajectory, role, asks)
        found = self.scores([said for duel in trajectory.contexts for said in both(duel)])
        return Duels.of(*(x_XS.unflatten(0, (-1, 2)) for x_XS in found))
