"""Names of files and folders of hospitals: unique, and the same for a hospital wherever they are made."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence

LONGEST = 48
"""Characters of a name that stand in its folder's name, before the hash."""

RESERVED = re.compile(r"con|prn|aux|nul|(com|lpt)[0-9]")
"""Names of devices, which Windows gives to no folder; a hospital may copy its folder there."""


def folder_names(hospitals: Sequence[str]) -> Mapping[str, str]:
    """Returns a folder name for each hospital, of at most 57 of the characters a-z, 0-9 and hyphen.

    `Tata Memorial Mumbai` becomes `tata-memorial-mumbai`. A name that loses anything but its case on the way, such as one
    in Japanese, gets a hash of the whole name as its ending, so that no two names share a folder. A folder's name depends
    on other hospitals only where their names differ in case alone: then all of them get the hash.
    """
    latin = {name: _latin(name) for name in hospitals}
    takers = Counter(latin[name] for name in hospitals if _says_all(name, latin[name]))
    return {
        name: short if _says_all(name, short) and takers[short] == 1 else _with_hash(name, short)
        for name, short in latin.items()
    }


def _latin(name: str) -> str:
    """Returns the Latin letters and digits of a name in lower case, without accents, joined by hyphens."""
    bare = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", bare.lower()).strip("-")


def _says_all(name: str, latin: str) -> bool:
    """Returns whether the folder's name can stand for this name alone: no other one looks like it but for its case."""
    kept = name.isascii() and name.lower() == latin.replace("-", " ")
    return kept and len(latin) <= LONGEST and not RESERVED.fullmatch(latin) and not re.search(r"-[0-9a-f]{8}$", latin)


def _with_hash(name: str, latin: str) -> str:
    digest = hashlib.sha256(unicodedata.normalize("NFC", name).encode()).hexdigest()[:8]
    return f"{latin[:LONGEST].strip('-') or 'hospital'}-{digest}"
