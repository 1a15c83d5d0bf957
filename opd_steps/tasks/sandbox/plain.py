"""Plain values as text on a socket: what two processes can tell each other when neither trusts the other's objects."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import islice

LONGEST = 16 << 20  # bytes of a message
_MOST = 1 << 20  # items taken of an iterator
_ATOMS = (bool, int, float, str)
_HOLDERS = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset, "iterator": iter}


class Gone(Exception):
    """Nobody is at the other end, or what it says is no message."""


def pack(value: object) -> object:
    """A value in what JSON can say. Raises TypeError for what is no plain value: a number, text, bytes, or None, and lists, tuples, sets,
    dicts and iterators of these; of a subclass counts the plain class.
    """
    if value is None or type(value) in _ATOMS:
        return value
    for atom in _ATOMS:
        if isinstance(value, atom):
            return atom(value)
    if isinstance(value, bytes | bytearray):
        return ["bytes", value.hex()]
    if isinstance(value, complex):
        return ["complex", value.real, value.imag]
    if isinstance(value, dict):
        return ["dict", *([pack(key), pack(item)] for key, item in value.items())]
    for name in ("list", "tuple", "set", "frozenset"):
        if isinstance(value, _HOLDERS[name]):
            return [name, *map(pack, value)]
    if isinstance(value, Iterator):
        return ["iterator", *map(pack, islice(value, _MOST))]
    raise TypeError(f"{type(value).__name__} is no plain value")


def unpack(said: object) -> object:
    """The value, of built-in classes alone. Raises an Exception for anything that `pack` does not say."""
    if said is None or isinstance(said, _ATOMS):
        return said
    name, *items = said
    if name == "bytes":
        return bytes.fromhex(*items)
    if name == "complex":
        return complex(*items)
    if name == "dict":
        return {unpack(key): unpack(item) for key, item in items}
    return _HOLDERS[name](list(map(unpack, items)))


def framed(message: object) -> bytes:
    """Its length and its text."""
    text = json.dumps(message).encode()
    return len(text).to_bytes(8) + text


def send(link: int, message: object) -> None:
    """Raises OSError when nobody is there."""
    data = framed(message)
    while data:
        data = data[os.write(link, data) :]


def receive(link: int) -> object:
    size = int.from_bytes(_read(link, 8))
    if size > LONGEST:
        raise Gone
    try:
        return json.loads(_read(link, size))
    except ValueError:
        raise Gone from None


def _read(link: int, size: int) -> bytes:
    parts = []
    while size:
        part = os.read(link, min(size, 1 << 20))
        if not part:
            raise Gone
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
