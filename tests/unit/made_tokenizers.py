"""Small real tokenizers of the kinds that are about, made on the spot, with chat templates of the same kinds."""

from __future__ import annotations

from functools import cache

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from opd_steps.models.tokenizers import CHATML, byte_tokenizer

TEXTS = ["What is 7 + 5? It is 12.", "  two  spaces\tand\na line", "Grüße, 你好, naïve 🙂", "user system assistant INST"] * 3
HEADER = "{{ '<|start|>' + m['role'] + '<|mid|>\n\n' + m['content'] | trim + '<|turn|>' }}"
TEMPLATES = {
    "chatml": CHATML,
    "chatml with a default system": "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe good.<|im_end|>\n' }}{% endif %}"
    + CHATML,
    "llama 3": "{{ bos_token }}{% for m in messages %}" + HEADER + "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant<|mid|>\n\n' }}{% endif %}",
    "with a clock": "{% for m in messages %}"
    "{{ '[' + m['role'] + ' ' + strftime_now('%d %b %Y %H:%M:%S.%f') + ']' + m['content'] }}{% endfor %}",
    "gemma": "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{{ '<start_of_turn>' + m['role'] + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
    "mistral": "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ m['content'] + '\n\n' }}{% endif %}{% endfor %}",
    "bare": "{% for m in messages %}{{ m['content'].strip() + '\n' }}{% endfor %}",
}
SYSTEMS_REFUSED = ("gemma",)
_MARKS = ["<|im_start|>", "<|im_end|>", "<|start|>", "<|mid|>", "<|turn|>", "<start_of_turn>", "<end_of_turn>"]


def wrap(core: Tokenizer, bos: str | None = None, eos: str = "<eos>", **more) -> PreTrainedTokenizerFast:
    core.add_special_tokens([AddedToken(mark, special=True) for mark in _MARKS])
    if bos:
        pair = (bos, core.token_to_id(bos))
        core.post_processor = processors.TemplateProcessing(f"{bos} $A", f"{bos} $A $B", [pair])
        more["bos_token"] = bos
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token=eos, **more)


def byte_level() -> PreTrainedTokenizerFast:
    """Llama 3 and Qwen: byte-level BPE; with a BOS by post-processor."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<pad>", "<eos>", "<bos>"]
    core.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=330, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    )
    return wrap(core, "<bos>")


def byte_fallback() -> PreTrainedTokenizerFast:
    """Gemma: spaces as the lower block, characters outside the vocabulary as <0xNN>, a BOS."""
    letters = sorted({c.replace(" ", "\u2581") for text in TEXTS for c in text if ord(c) < 128 and c != "\n"})
    vocab = {
        t: i
        for i, t in enumerate(["<pad>", "<eos>", "<bos>", *(f"<0x{b:02X}>" for b in range(256)), *letters, "is", "\u2581is"])
    }
    core = Tokenizer(models.BPE(vocab, merges=[("i", "s"), ("\u2581", "is")], byte_fallback=True))
    core.normalizer = normalizers.Replace(" ", "\u2581")
    core.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    core.add_special_tokens(["<pad>", "<eos>", "<bos>"])
    return wrap(core, "<bos>")


def sentencepiece() -> PreTrainedTokenizerFast:
    """Llama 2 and Mistral: a space in front of the text, dropped again when it is read back; byte fallback, a BOS called <s>."""
    letters = sorted({c for text in TEXTS for c in text if ord(c) < 128 and c not in " \n"})
    pieces = ["<pad>", "</s>", "<s>", "<unk>", *(f"<0x{b:02X}>" for b in range(256)), "\u2581", *letters, "is", "\u2581is"]
    core = Tokenizer(models.Unigram([(p, -10.0 + len(p)) for p in pieces], unk_id=3, byte_fallback=True))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    core.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    core.add_special_tokens(["<pad>", "</s>", "<s>", "<unk>"])
    return wrap(core, "<s>", "</s>", unk_token="<unk>")


def plain_bytes() -> PreTrainedTokenizerFast:
    """The package's own byte tokenizer, with a BOS token that its rule adds nowhere."""
    made = byte_tokenizer()
    made.add_special_tokens({"bos_token": "<bos>", "additional_special_tokens": _MARKS})
    return made


MADE = {made.__name__: made for made in (byte_level, byte_fallback, sentencepiece, plain_bytes)}


@cache
def made(name: str, template: str | None = None) -> PreTrainedTokenizerFast:
    tokenizer = MADE[name]()
    tokenizer.chat_template = TEMPLATES.get(template)
    return tokenizer
