"""What was found in the hospitals' folders, and what stands between it and a fair evaluation."""

import streamlit as st

from medisync.dashboard import components, data
from medisync.reporting.charts import dataset_composition
from medisync.reporting.tables import audit_tables

ELSEWHERE = "The dataset is not on this machine, so the pictures cannot be shown."

APART = (
    "The hospitals were apart. Each keeps the list of its own files, of its copies and of what it left out; here are counts. "
    "Whether two hospitals share a scan is not known: over a network the scans never meet."
)


def show_folders() -> None:
    st.markdown("##### Folders and the class each stands for")
    components.table(audit_tables.folders(audit), "Folders, their class and how many images they hold")


def show_pair() -> None:
    """Two files that are one slice, side by side; a mirrored one is turned back."""
    pair = st.selectbox("Pair", audit.examples, format_func=audit_tables.pair_name)
    shown = [(data.picture(pair.first), pair.first), (data.picture(pair.second, mirrored=pair.mirrored), pair.second)]
    found = [(pixels, path, "A copy of the other picture") for pixels, path in shown if pixels is not None]
    if found:
        components.pictures(found, width=300)
    else:
        st.caption(ELSEWHERE)
    st.markdown(audit_tables.pair_caption(pair))


def show_conflict() -> None:
    conflict = st.selectbox("Slice", audit.conflicts, format_func=audit_tables.conflict_name)
    shown = [(data.picture(path), path) for path in conflict.paths]
    found = [(pixels, path, "A slice under several labels") for pixels, path in shown if pixels is not None]
    if found:
        components.pictures(found, width=300)
    else:
        st.caption(ELSEWHERE)


run = components.require_run()
audit = data.audit(run)

st.title("Data audit")
st.markdown("What lies in the hospitals' folders, what was left out, and which scans occur more than once.")
components.headlines(audit_tables.audit_headlines(audit))
for hospital, note in audit_tables.notes(audit):
    st.info(f"**{hospital}:** {note}", icon=":material/info:")

st.subheader("Hospital by hospital")
components.table(audit_tables.audit_hospitals(audit), "What was found at each hospital")
if data.record(run).transport == "over the network":
    st.info(APART, icon=":material/lan:")
    show_folders()
    st.stop()

left, right = st.columns(2, gap="large")
with left:
    components.chart(dataset_composition.overlap(audit))
with right:
    show_folders()

st.subheader("The same slice twice")
if audit.examples:
    show_pair()
    with st.expander("All examples as a table"):
        st.dataframe(audit_tables.copies(audit), hide_index=True, alt="Pairs of files that show one slice")
else:
    st.success("No slice occurs twice.", icon=":material/check_circle:")

st.subheader("Files left out")
left_out = audit_tables.left_out(audit)
if left_out.empty:
    st.success("Nothing was left out: every image was readable and has a class.", icon=":material/check_circle:")
else:
    st.dataframe(left_out, hide_index=True, alt="Files left out, with the reason")
if audit.conflicts:
    st.markdown("##### In quarantine: one slice under several labels")
    show_conflict()
