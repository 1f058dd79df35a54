"""What was found in the hospitals' folders, and what stands between it and a fair evaluation."""

import streamlit as st

from medisync.dashboard import charts, data, tables
from medisync.dashboard.pages import parts

run = parts.require_run()
audit = data.audit(run)

st.title("Data audit")
st.markdown("What lies in the hospitals' folders, what was left out, and which scans occur more than once.")
parts.headlines(tables.audit_headlines(audit))
for hospital, note in tables.notes(audit):
    st.info(f"**{hospital}:** {note}", icon=":material/info:")

st.subheader("Hospital by hospital")
st.table(tables.audit_hospitals(audit), border="horizontal", hide_index=True)
left, right = st.columns(2, gap="large")
with left:
    parts.chart(charts.overlap(audit))
with right:
    st.markdown("##### Folders and the class each stands for")
    st.table(tables.folders(audit), border="horizontal", hide_index=True)

st.subheader("Files left out")
left_out = tables.left_out(audit)
if left_out.empty:
    st.success("Nothing was left out: every image was readable and has a class.", icon=":material/check_circle:")
else:
    st.dataframe(left_out, hide_index=True, alt="Files left out, with the reason")

st.subheader("Examples of the same slice twice")
copies = tables.copies(audit)
if copies.empty:
    st.success("No slice occurs twice.", icon=":material/check_circle:")
else:
    st.dataframe(copies, hide_index=True, alt="Pairs of files that show one slice")
