"""What cards compute at most, of their data sheets: operations a second by dtype, dense, those of bf16 with sums in fp32."""

from __future__ import annotations

import re

PEAK = {  # in this order: the first whose words are all in the card's name
    "B200": {"bfloat16": 2250e12, "float32": 75e12},
    "GH200": {"bfloat16": 989e12, "float32": 67e12},
    "H200 NVL": {"bfloat16": 835e12, "float32": 60e12},
    "H200": {"bfloat16": 989e12, "float32": 67e12},
    "H100 PCIe": {"bfloat16": 756e12, "float32": 51e12},
    "H100 NVL": {"bfloat16": 835e12, "float32": 60e12},
    "H100": {"bfloat16": 989e12, "float32": 67e12},  # SXM: "NVIDIA H100 80GB HBM3"
    "A100": {"bfloat16": 312e12, "float32": 19.5e12},
    "L40S": {"bfloat16": 362e12, "float32": 91.6e12},
    "L4": {"bfloat16": 121e12, "float32": 30.3e12},
    "RTX 4090": {"bfloat16": 165e12, "float32": 82.6e12},
}


def peak(name: str) -> dict[str, float] | None:
    """Of the card that CUDA calls so; None for one that is not in the table, and for a slice of a card (MIG)."""
    words = set(re.split(r"[\s-]+", name))  # "NVIDIA A100-SXM4-80GB"
    return None if "MIG" in words else next((found for card, found in PEAK.items() if words.issuperset(card.split())), None)
