"""Tokenizers that chat models of today have, in their shapes: as many tokens, their special ones, templates that know thinking."""

from __future__ import annotations

from functools import cache

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

SIZE = 151_669  # tokens of Qwen3's tokenizer: 151,643 of its BPE and 26 more
QWEN3_BPE = 151_643
END_OF_TEXT, IM_START, IM_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL = (END_OF_TEXT, IM_START, IM_END, *(f"<|special_{i}|>" for i in range(11)))
PLAIN = ("<tool_call>", "</tool_call>", *(f"<|plain_{i}|>" for i in range(6)), "<tool_response>", "</tool_response>")
THOUGHT = ("<think>", "</think>")

# As Qwen3's: ChatML; thoughts of earlier answers left out; with enable_thinking: false, an empty thought in front of the answer.
THINKING_SWITCH = (
    "{% for m in messages %}"
    "{% set said = m['content'] %}"
    "{% if m['role'] == 'assistant' and '</think>' in said and not loop.last %}{% set said = said.split('</think>')[-1].lstrip('\n') %}"
    "{% endif %}{{ '<|im_start|>' + m['role'] + '\n' + said + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
# As DeepSeek-R1's distilled models: the prompt itself opens the thought, which the answer then only ends.
THINKING_BEGUN = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
)


@cache
def chat_tokenizer(
    template: str = THINKING_SWITCH, end: str = IM_END, size: int = SIZE, hidden_tags: bool = False
) -> PreTrainedTokenizerFast:
    """Byte-level BPE without merges, filled up to `size` tokens; ids of the special tokens are Qwen3's where the size is.

    `hidden_tags`: the tags of thoughts are special tokens, which decoding leaves out.
    """
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    fill = size - len(SPECIAL) - len(PLAIN) - len(THOUGHT) - len(letters)
    vocab = {token: i for i, token in enumerate([*letters, *(f"\uffff{i}" for i in range(fill))])}
    core = Tokenizer(models.BPE(vocab, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL])
    core.add_tokens([AddedToken(name, special=False, normalized=False) for name in PLAIN])
    tags = [AddedToken(name, special=hidden_tags, normalized=False) for name in THOUGHT]
    core.add_special_tokens(tags) if hidden_tags else core.add_tokens(tags)
    made = PreTrainedTokenizerFast(tokenizer_object=core, pad_token=END_OF_TEXT, eos_token=end)
    made.chat_template = template
    return made
