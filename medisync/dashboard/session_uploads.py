"""The files that a session has uploaded. They last as long as the session, also while another page is shown.

Streamlit forgets an uploader's files as soon as another page is shown, so their bytes are held in the session state, until
the person removes them or leaves.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import streamlit as st

from medisync.dashboard import uploads
from medisync.dashboard.uploads import Sent, Upload
from medisync.imaging.file_tree import LeftOut, counted
from medisync.reporting.formatting import escape

KEPT_KEY = "uploads"
"""The key in the session state of what was uploaded, by file, in the order of arrival."""

UPLOADER_KEY = "uploader"
IN_UPLOADER_KEY = "files-in-uploader"
"""The key in the session state of the files that the uploader itself lists."""

SORTED_KEY = "sorted-uploads"
"""The key in the session state of the scans among the kept files, with the keys of these files."""

MAX_SESSION = 400 * 2**20
"""Bytes that one session's uploads may take, unpacked."""

LISTED = 8
"""Most earlier files that have a button each."""


@dataclass(frozen=True)
class Kept:
    """One uploaded file, or the scans in it if it is an archive, with what else it holds."""

    name: str
    size: int
    file: Sent | None
    """None for an archive, whose packed bytes are not needed any more."""
    scans: tuple[Upload, ...] = ()
    left_out: LeftOut = field(default_factory=LeftOut)


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
    scans, left_out = _sorted_once(kept)
    if left_out:
        which = ", ".join(map(escape, left_out.lines()))
        st.caption(f":material/filter_alt: {counted(len(left_out), 'file')} left out: {which}.")
    return scans


def _sorted_once(kept: Mapping[str, Kept]) -> tuple[list[Upload], LeftOut]:
    """Returns the scans among all files, and what is none; sorted anew only when files come or go."""
    known = st.session_state.get(SORTED_KEY)
    if known is None or known[0] != list(kept):
        known = st.session_state[SORTED_KEY] = (list(kept), *_sort(kept.values()))
    found: tuple[list[Upload], LeftOut] = known[1:]
    return found


def _sort(kept: Collection[Kept]) -> tuple[list[Upload], LeftOut]:
    scans, left_out = uploads.expand([each.file for each in kept if each.file])
    for each in kept:
        scans += each.scans
        left_out.update(each.left_out)
    return scans, left_out


def _kept() -> dict[str, Kept]:
    found: dict[str, Kept] = st.session_state.setdefault(KEPT_KEY, {})
    return found


def _keep(key: str, name: str, content: bytes) -> bool:
    """Holds a file for the session; returns False if there is no room for it."""
    kept, sent = _kept(), Sent(name, key, content)
    if sent.is_archive:
        scans, left_out = uploads.expand([sent])
        size = max(len(content), sum(len(part) for scan in scans for part in scan.files))
        arrived = Kept(name, size, None, tuple(scans), left_out)
    else:
        arrived = Kept(name, len(content), sent)
    if arrived.size + sum(each.size for each in kept.values()) > MAX_SESSION:
        return False
    kept[key] = arrived
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
