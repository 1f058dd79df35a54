"""Data audit: the contents of the hospitals' folders, files left out, and slices that occur more than once."""

import streamlit as st

from medisync.dashboard import components, data
from medisync.reporting import headlines, outside, sentences, tables
from medisync.reporting.charts import dataset_composition
from medisync.schemas import AuditRecord

APART = (
    "The hospitals took part over a network. Each keeps the list of its own files, copies and files left out; this page "
    "shows counts. Whether hospitals share scans is unknown, because scans never leave their hospital."
)


def show_folders(audit: AuditRecord) -> None:
    components.heading("Folders and their classes")
    components.table(tables.folders(audit), "Folders, their classes and numbers of images")


def show_pair(audit: AuditRecord) -> None:
    """Draws two files that show the same slice; a mirrored one is flipped back."""
    pair = st.selectbox("Pair", audit.examples, format_func=sentences.pair_name)
    shown = [(data.picture(pair.first), pair.first), (data.picture(pair.second, mirrored=pair.mirrored), pair.second)]
    found = [(pixels, path, "One of two copies of a slice") for pixels, path in shown if pixels is not None]
    components.pictures(found, width=300)
    st.markdown(sentences.pair_caption(pair))


def show_conflict(audit: AuditRecord) -> None:
    conflict = st.selectbox("Slice", audit.conflicts, format_func=sentences.conflict_name)
    shown = [(data.picture(path), path) for path in conflict.paths]
    found = [(pixels, path, "A slice under several labels") for pixels, path in shown if pixels is not None]
    components.pictures(found, width=300)


def show_external(audit: AuditRecord) -> None:
    """Draws what the external datasets hold, and which of their images a hospital has too or cannot be used."""
    st.subheader("External datasets")
    st.markdown("Scans from outside the hospitals, which are only evaluated.")
    components.table(outside.audited(audit), "Folders of the external datasets and their classes")
    excluded = outside.excluded(audit)
    if not excluded.empty:
        components.heading("Excluded")
        components.grid(excluded, "Images of external datasets that are not evaluated, with the reason")


run = components.require_run()
audit = data.audit(run)

st.title("Data audit")
st.markdown("What the hospitals' folders contain, what was left out and why, and which slices occur more than once.")
components.headlines(headlines.audit(audit))
for warning in sentences.audit_warnings(audit):
    st.warning(warning, icon=":material/warning:")
for note in sentences.audit_notes(audit):
    st.info(note, icon=":material/info:")

st.subheader("Contents by hospital")
components.table(tables.audit_summary(audit), "What was found at each hospital")
if data.record(run).transport == "over the network":
    st.info(APART, icon=":material/lan:")
    show_folders(audit)
    if audit.external:
        show_external(audit)
    st.stop()

left, right = st.columns(2, gap="large")
with left:
    components.chart(dataset_composition.overlap(audit))
with right:
    show_folders(audit)

st.subheader("Copies of a slice")
if audit.examples:
    show_pair(audit)
    with st.expander("All example pairs"):
        components.grid(tables.copies(audit), "Pairs of files that show the same slice")
else:
    st.success("No slice occurs twice.", icon=":material/check_circle:")

st.subheader("Files left out")
left_out = tables.left_out(audit)
if left_out.empty:
    st.success("No files were left out: every image was readable and has a class.", icon=":material/check_circle:")
else:
    components.grid(left_out, "Files left out, with the reason")
if audit.conflicts:
    components.heading("Quarantined: slices that occur under several labels")
    show_conflict(audit)
if audit.external:
    show_external(audit)
