"""Token rows as a model reads them: side by side and padded to one length, or one behind the other without padding.

Unpadded rows are one row of tokens whose positions begin anew. All that a model does token by token takes them as they are; attention must
keep them apart. transformers does so by position ids: with flash attention by bounds, else by a mask of all tokens against all. With sdpa
rows are set side by side for attention alone (`attend`), so that there is neither a mask nor work on tokens of other rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

KNOWN = ("Qwen3", "Qwen2", "Llama", "Qwen3Moe", "Mistral", "GPT2", "GPTNeoX")
"""Classes of whose parts attention alone looks at several tokens, and takes its place from position ids."""


@dataclass(frozen=True)
class Read:
    """What a model is given, and where its states are whose next token is a decision.

    tokens_BL  token ids; of unpadded rows one row of all
    at_N       a state's place in its row of these
    row_N      which row of these
    how        keywords of the model's forward pass
    length_B   tokens of each row, without padding
    """

    tokens_BL: Tensor
    at_N: Tensor
    row_N: Tensor
    how: dict
    length_B: list[int]


def padded(
    contexts: Sequence[Sequence[int]], behind: Sequence[list[int]], places: Sequence[Sequence[int]], pad_id: int, device
) -> Read:
    """Contexts and the tokens behind them (nouns.heard.woven) as rows padded on the right: causal attention needs no mask. The last token
    of a row predicts nothing, and is not read."""
    rows = [[*c, *tokens] for c, tokens in zip(contexts, behind, strict=True)]
    width = max(len(r) for r in rows) - 1
    tokens = torch.tensor([r[:-1] + [pad_id] * (width - len(r) + 1) for r in rows], device=device)
    at = [len(c) - 1 + p for c, own in zip(contexts, places, strict=True) for p in own]
    row = [b for b, own in enumerate(places) for _ in own]
    return Read(tokens, torch.tensor(at, device=device), torch.tensor(row, device=device), {}, [len(r) - 1 for r in rows])


def unpadded(
    contexts: Sequence[Sequence[int]], behind: Sequence[list[int]], places: Sequence[Sequence[int]], beside: bool, device
) -> Read:
    """The same one behind the other. `beside`: attention sets them side by side (sdpa)."""
    rows = [[*c, *tokens][:-1] for c, tokens in zip(contexts, behind, strict=True)]
    length_B = torch.tensor([len(r) for r in rows])
    start_B = length_B.cumsum(0) - length_B
    row_T = torch.repeat_interleave(torch.arange(len(rows)), length_B)
    place_T = torch.arange(len(row_T)) - start_B[row_T]
    at = [s + len(c) - 1 + p for s, c, own in zip(start_B.tolist(), contexts, places, strict=True) for p in own]
    at_N = torch.tensor(at, device=device)
    how = {"position_ids": place_T[None].to(device)}
    if beside:
        width = int(length_B.max())
        sides = Sides(len(rows), width, (row_T * width + place_T).to(device))
        how |= {
            "sides": sides,
            "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device),
        }  # one that nobody reads
    tokens_1T = torch.tensor([t for r in rows for t in r], device=device)[None]
    return Read(tokens_1T, at_N, torch.zeros_like(at_N), how, length_B.tolist())


@dataclass(frozen=True)
class Sides:
    """`rows` x `width` places for rows side by side; token number t of all goes to place at_T[t]."""

    rows: int
    width: int
    at_T: Tensor

    def apart(self, x_1HTD: Tensor) -> Tensor:
        """[rows, H, width, D], padding 0."""
        heads, size = x_1HTD.shape[1], x_1HTD.shape[3]
        wide = x_1HTD.new_zeros(heads, self.rows * self.width, size).index_copy(1, self.at_T, x_1HTD[0])
        return wide.view(heads, self.rows, self.width, size).transpose(0, 1)

    def together(self, x_BLHD: Tensor) -> Tensor:
        return x_BLHD.flatten(0, 1).index_select(0, self.at_T)[None]


def attend(module, query, key, value, attention_mask, sides: Sides | None = None, **how):
    """transformers' sdpa attention; with `sides` of unpadded rows."""
    if sides is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **how)
    out_BLHD, _ = sdpa_attention_forward(module, sides.apart(query), sides.apart(key), sides.apart(value), None, **how)
    return sides.together(out_BLHD), None


def packs(model: PreTrainedModel) -> bool:
    """Whether the model can read unpadded rows; if not, the log says why."""
    kinds = [found.__name__ for found in type(model).__mro__]  # a sharded one has a class of its own in front
    name = next((kind for kind in kinds if kind.removesuffix("ForCausalLM").removesuffix("LMHeadModel") in KNOWN), "")
    layers = set(getattr(model.config, "layer_types", None) or ()) - {"full_attention"}
    if not getattr(model.config, "layer_types", None) and getattr(model.config, "sliding_window", None):
        layers = {"sliding_attention"}
    if not name or layers:
        of = f"{name or kinds[0]} with layers of {', '.join(sorted(layers))}" if layers else kinds[0]
        print(f"rows of {of} are padded: packed is for {', '.join(KNOWN)}, with full attention in every layer", flush=True)
        return False
    if model.config._attn_implementation == "sdpa":
        AttentionInterface.register("sdpa", attend)
    return True
