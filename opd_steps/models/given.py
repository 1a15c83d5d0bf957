"""A checkpoint that somebody gives us, judged whole before anything is trained on it: what would fail, or lie, days later."""

from __future__ import annotations

import inspect
import json
import tempfile
from pathlib import Path

from safetensors import safe_open
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from opd_steps.errors import UserError
from opd_steps.models.folder import read_model
from opd_steps.process.finite import not_finite

GENERATION = "generation_config.json"


def judge(folder: Path, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises UserError unless `folder` is a causal language model with all its weights, each a finite number, that fits its tokenizer
    and can be saved again.
    """
    require_causal(config, str(folder / "config.json"))
    require_fit(config, tokenizer, str(folder))
    _require_generation_config(folder)
    model = read_model(str(folder), device_map="meta")  # names and shapes alone
    _require_saving(model, tokenizer, folder)
    _require_values(folder, dict(model.all_tied_weights_keys) if config.tie_word_embeddings else {})


def require_causal(config: PreTrainedConfig, where: str) -> None:
    """Raises UserError for an architecture whose tokens see what comes after them, or that predicts none."""
    kind, named = config.model_type, config.architectures or []
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise UserError(where, f"expected a causal language model; transformers has none of model type '{kind}'")
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise UserError(where, f"architectures: expected a list of names, found {named!r}")
    if named and not any(n in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values() or n.endswith("ForCausalLM") for n in named):
        raise UserError(where, f"expected a causal language model, found {named[0]}")
    # transformers says so in the log of each encoder whose causal mask hangs on this field, and goes on without a mask
    source = inspect.getsource(MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].__init__)
    if "add `is_decoder=True" in source and not config.is_decoder:
        raise UserError(where, f"a {kind} model is a causal language model with is_decoder: true alone; this one is an encoder")


def require_fit(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, where: str) -> None:
    """Raises UserError unless every token that a text may hold, and the padding id, have a row in the embedding.

    Special tokens may lie beyond it, as Gemma 3's for images do: no text is read as one (models/special.py).
    """
    text, vocab = config.get_text_config(), tokenizer.get_vocab()
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    known = [(i, token) for token, i in vocab.items() if i not in special]
    if not known:
        raise UserError(where, "the tokenizer has no tokens that a text could be made of")
    most, token = max(known)
    if most >= text.vocab_size:
        raise UserError(
            where, f"the tokenizer has the token {token!r} = {most}, the embedding {text.vocab_size} rows (vocab_size)"
        )
    last = max(vocab.values())
    if last + 1 != len(tokenizer):
        raise UserError(where, f"the tokenizer has {len(tokenizer)} tokens with ids up to {last}; expected ids without holes")
    pad = getattr(text, "pad_token_id", None)
    if pad is not None and not -1 <= pad < text.vocab_size:  # -1: an old way to say none
        raise UserError(where, f"pad_token_id is {pad}, the embedding has {text.vocab_size} rows (vocab_size)")


def _require_generation_config(folder: Path) -> None:
    file = folder / GENERATION
    if not file.is_file():
        return
    try:
        if not isinstance(json.loads(file.read_text()), dict):
            raise ValueError("expected a JSON object")
        GenerationConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # whatever its fields' types lead to
        raise UserError(str(file), f"not a generation config: {error}") from None


def _require_saving(model, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """What training ends with, now, without the weights."""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            model.save_pretrained(scratch, state_dict={})
            tokenizer.save_pretrained(scratch)
        except Exception as error:
            raise UserError(str(folder), f"a model made from it could not be saved: {error}") from None


def _require_values(folder: Path, tied: dict[str, str]) -> None:
    """`tied`: weights that config.json declares equal to others, which a file may hold nevertheless."""
    kept = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as weights:
            for name in weights.keys():  # noqa: SIM118 - no dict
                dtype = weights.get_slice(name).get_dtype()
                if "F8" in dtype or "F4" in dtype or (dtype[0] in "IU" and name.endswith("weight")):
                    raise UserError(str(file), f"{name} is quantised ({dtype}); expected plain weights")
                if not_finite([(name, tensor := weights.get_tensor(name))]):
                    raise UserError(str(file), f"{name} holds values that are not finite")
                if name in tied or name in tied.values():
                    kept[name] = tensor
    for name, source in tied.items():
        if name in kept and source in kept and not kept[name].equal(kept[source]):
            raise UserError(str(folder), f"config.json says that {name} is {source} (tie_word_embeddings), the weights differ")
