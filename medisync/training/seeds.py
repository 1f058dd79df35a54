"""One seed per purpose, from names."""

import hashlib


def derive_seed(*parts: int | str) -> int:
    """One seed per (seed, round, hospital, ...): independent streams, the same on every machine."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:7], "big")
