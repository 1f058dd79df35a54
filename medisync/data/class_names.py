"""Suggests what a folder that is in no class map could mean; only a person can decide it, so nothing here sets a label."""

import difflib
from collections.abc import Mapping

from medisync.config import normalise_folder
from medisync.schemas import ExternalLabel, Label

STEMS: Mapping[str, Label] = {"gliom": "glioma", "menin": "meningioma", "pituit": "pituitary"}
"""Beginnings of words in the folder names of public collections."""

WITHOUT_TUMOUR = frozenset(
    {"no", "normal", "healthy", "control", "controls", "notumor", "notumour", "no tumor", "no tumour", "negative"}
)
TUMOUR_OF_ANY_CLASS = frozenset({"yes", "tumor", "tumour", "positive", "brain tumor", "brain tumour"})


def suggest(folder: str, class_map: Mapping[str, ExternalLabel]) -> str:
    """Returns a clause on what to do about a folder that is not in the class map; empty if its name says nothing."""
    name = normalise_folder(folder)
    if name in TUMOUR_OF_ANY_CLASS:
        return "its name does not say which tumour; sort its images into folders of one class each"
    if label := _label(name):
        return f"if it holds {label}, add {folder!r}: {label!r} to `class_map`"
    if close := difflib.get_close_matches(name, class_map, n=1, cutoff=0.8):
        return f"if it is {close[0]!r}, rename it or add {folder!r}: {class_map[close[0]]!r} to `class_map`"
    return ""


def _label(name: str) -> Label | None:
    """Returns the one class that the words of a name stand for."""
    found = {label for word in name.split() for stem, label in STEMS.items() if word.startswith(stem)}
    if name in WITHOUT_TUMOUR:
        found.add("notumor")
    return found.pop() if len(found) == 1 else None
