"""Seeds for independent random streams."""

import hashlib


def derive_seed(*parts: int | str) -> int:
    """The seed of a purpose such as (seed, round, hospital): one for each purpose, the same on every machine."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:7], "big")
