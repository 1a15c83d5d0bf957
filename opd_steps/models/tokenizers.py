"""Tokenizers: two that are made on the spot, and what identifies any of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from opd_steps.errors import UserError
from opd_steps.models.special import encode_as_text, leading_ids, names_in
from opd_steps.store.fingerprint import digest as json_digest

PAD, EOS = "<pad>", "<eos>"
IM_START, IM_END = "<|im_start|>", "<|im_end|>"
PLAIN_CHAT = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def char_tokenizer(alphabet: str) -> PreTrainedTokenizerFast:
    """One token a character of `alphabet` (any order), behind <pad> = 0 and <eos> = 1; a chat is its bare messages."""
    vocab = {token: i for i, token in enumerate([PAD, EOS, *sorted(set(alphabet))])}
    core = Tokenizer(models.WordLevel(vocab))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("(?m)."), "isolated")  # m: the dot also takes line breaks
    core.decoder = decoders.Fuse()
    return _wrap(core, EOS, PLAIN_CHAT)


def bpe_tokenizer(alphabet: str, texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """The characters of `alphabet` and as many merges again, learned from `texts`; <pad>, <eos>; a chat is its bare messages."""
    core = Tokenizer(models.BPE())
    core.decoder = decoders.Fuse()
    letters = sorted(set(alphabet))
    size = 2 + 2 * len(letters)
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=[PAD, EOS], initial_alphabet=letters, show_progress=False)
    core.train_from_iterator(texts, trainer)
    return _wrap(core, EOS, PLAIN_CHAT)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte of UTF-8 (byte-level BPE without merges), <pad>, <eos> and ChatML marks; takes every text."""
    specials = [PAD, EOS, IM_START, IM_END]
    vocab = {token: i for i, token in enumerate([*specials, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    core = Tokenizer(models.BPE(vocab, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    return _wrap(core, EOS, CHATML, [IM_START, IM_END])


def _wrap(core: Tokenizer, eos: str, chat: str, more: list[str] = ()) -> PreTrainedTokenizerFast:
    # no unknown token: what cannot be written is an error, never a silent <unk>
    made = PreTrainedTokenizerFast(tokenizer_object=core, pad_token=PAD, eos_token=eos, additional_special_tokens=list(more))
    made.chat_template = chat
    return made


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a text, without added special tokens; a special token's name in it is text.

    Raises UserError naming the character that the tokenizer lacks.
    """
    return _encode(tokenizer, text, encode_as_text if names_in(tokenizer, text) else _plainly)


def encode_markup(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The same of text that means special tokens by their names: a rendered chat."""
    return _encode(tokenizer, text, _plainly)


def _plainly(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False, split_special_tokens=False)["input_ids"]


def _encode(tokenizer: PreTrainedTokenizerBase, text: str, how: Callable) -> list[int]:
    try:
        return how(tokenizer, text)
    except Exception as error:  # tokenizers raises bare Exception
        if "UNK" not in str(error):
            raise
        vocab = tokenizer.get_vocab()
        lacking = next((c for c in text if c not in vocab), text[:1])
        raise UserError("tokenizer", f"the character {lacking!r} is not in its alphabet (text: {text[:60]!r})") from None


def vocab_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """sha256 of vocabulary, added tokens and merges: equal digests, equal meaning of every token id."""
    core = getattr(tokenizer, "backend_tokenizer", None)
    merges = json.loads(core.to_str())["model"].get("merges", []) if core is not None else []
    added = {str(i): [token.content, token.special] for i, token in tokenizer.added_tokens_decoder.items()}
    return json_digest({"vocab": tokenizer.get_vocab(), "added": added, "merges": merges})


def digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """sha256 of vocabulary, merges, special tokens, BOS rule and chat template: equal digests, equal treatment of every text."""
    specials = {name: getattr(tokenizer, name) for name in ("bos_token", "eos_token", "pad_token")}
    specials["leading"] = leading_ids(tokenizer)
    return json_digest({"vocab": vocab_digest(tokenizer), "specials": specials, "chat": tokenizer.chat_template})


def describe(tokenizer: PreTrainedTokenizerBase) -> dict:
    """What other nodes compare: digests, number of tokens, end and padding id."""
    template = json.dumps(tokenizer.chat_template)
    return {
        "digest": digest(tokenizer),
        "vocab_digest": vocab_digest(tokenizer),
        "size": len(tokenizer),
        "eos": tokenizer.eos_token_id,
        "pad": tokenizer.pad_token_id,
        "chat_template_sha": hashlib.sha256(template.encode()).hexdigest(),
    }
