"""Which freed blocks stay with a process. In one of its own: mallopt is for all of it."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import ctypes
from opd_steps.process.heap import keep_freed_memory, kept_chunks

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]


def left(block):
    "MiB of eight blocks that are still in memory when they are freed, each behind one that stays."
    pages = lambda: int(open("/proc/self/statm").read().split()[1]) * 4096
    before, blocks = pages(), [(libc.malloc(block), libc.malloc(1 << 16)) for _ in range(8)]
    for large, _ in blocks:
        ctypes.memset(large, 1, block)
    for large, _ in blocks:
        libc.free(large)
    return (pages() - before) >> 20


keep_freed_memory()
print(left(4 << 20))
with kept_chunks():
    print(left(16 << 20))
print(left(16 << 20))
"""


def test_large_blocks_go_back_but_for_those_of_chunks():
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    activations, chunks, later = map(int, run.stdout.split())
    assert activations < 4 and chunks > 120
    assert later < 4  # or in what the chunks left
