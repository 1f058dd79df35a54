"""The files that a session has uploaded. They last as long as the session, also while another page is shown.

Streamlit forgets an uploader's files as soon as another page is shown, so their bytes are held in the session state, until
the person removes them or leaves.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import streamlit as st

from medisync.dashboard import uploads
from medisync.dashboard.uploads import Upload
from medisync.reporting.formatting import escape

KEPT_KEY = "uploads"
"""The key in the session state of what was uploaded, by file, in the order of arrival."""

UPLOADER_KEY = "uploader"
IN_UPLOADER_KEY = "files-in-uploader"
"""The key in the session state of the files that the uploader itself lists."""

MAX_SESSION = 400 * 2**20
"""Bytes that one session's uploads may take, unpacked."""

LISTED = 8
"""Most earlier files that have a button each."""


@dataclass(frozen=True)
class Kept:
    """One uploaded file, and the scans in it."""

    name: str
    size: int
    scans: tuple[Upload, ...]


def choose() -> list[Upload]:
    """Draws the uploader and, below it, what was uploaded before another page was shown; returns all scans."""
    sent = st.file_uploader(
        "MRI scans (PNG, JPEG, TIFF, WebP, DICOM, NIfTI), or a ZIP archive of them",
        accept_multiple_files=True,
        key=UPLOADER_KEY,
        on_change=_forget_removed,
    )
    kept = _kept()
    full = [
        file.name for file in sent if file.file_id not in kept and not _keep(file.file_id, file.name, file.getvalue())
    ]
    st.session_state[IN_UPLOADER_KEY] = {file.file_id for file in sent}
    _offer_removal({key: each for key, each in kept.items() if key not in st.session_state[IN_UPLOADER_KEY]})
    if full:
        st.warning(_too_much(full), icon=":material/warning:")
    return [scan for each in kept.values() for scan in each.scans]


def _kept() -> dict[str, Kept]:
    found: dict[str, Kept] = st.session_state.setdefault(KEPT_KEY, {})
    return found


def _keep(key: str, name: str, content: bytes) -> bool:
    """Holds a file for the session; returns False if there is no room for it."""
    kept = _kept()
    scans = tuple(uploads.expand(name, key, content))
    size = max(len(content), sum(len(part) for scan in scans for part in scan.files))
    if size + sum(each.size for each in kept.values()) > MAX_SESSION:
        return False
    kept[key] = Kept(name, size, scans)
    return True


def _forget_removed() -> None:
    """Forgets the files that the person has just removed from the uploader."""
    left = {file.file_id for file in st.session_state[UPLOADER_KEY]}
    _forget(st.session_state.get(IN_UPLOADER_KEY, set()) - left)


def _offer_removal(earlier: Mapping[str, Kept]) -> None:
    if not earlier:
        return
    st.caption("Uploaded earlier in this session:")
    with st.container(horizontal=True):
        for key, each in list(earlier.items())[:LISTED]:
            label = f"Remove {escape(each.name[:40])}"
            st.button(label, key=f"remove-{key}", icon=":material/close:", on_click=_forget, args=([key],))
        if len(earlier) > 1:
            st.button(f"Remove all {len(earlier)}", icon=":material/delete:", on_click=_forget, args=(list(earlier),))


def _forget(keys: Iterable[str]) -> None:
    for key in keys:
        _kept().pop(key, None)


def _too_much(names: Sequence[str]) -> str:
    which = escape(names[0][:80]) if len(names) == 1 else f"{len(names)} files"
    return f"{which} left out: the uploads of one session may take {MAX_SESSION >> 20} MB together. Remove some first."
