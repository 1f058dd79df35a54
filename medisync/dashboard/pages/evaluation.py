"""How the global model does on scans that neither training nor selection has seen."""

import streamlit as st

from medisync.dashboard import baselines, charts, data, tables, words
from medisync.dashboard.pages import parts

run = parts.require_run()
meta = data.meta(run)

st.title("Evaluation")
st.caption(tables.test_set_note(meta))
scope = st.selectbox("Test scans of", [None, *meta.metrics.hospitals], format_func=words.scope_name, width=320)
metrics = meta.metrics.test if scope is None else meta.metrics.hospitals[scope]
if not metrics.n:
    st.info("This hospital has no test scans, so its metrics are undefined.", icon=":material/info:")
    st.stop()
parts.headlines(tables.headlines(metrics))

left, right = st.columns(2, gap="large")
with left:
    parts.chart(charts.confusion(metrics))
with right:
    parts.chart(charts.reliability(metrics))

st.subheader("Class by class")
left, right = st.columns(2, gap="large")
with left:
    st.table(tables.per_class(metrics), border="horizontal", hide_index=True)
    st.markdown("##### Can its doubts be relied on")
    st.table(tables.trust(metrics), border="horizontal", hide_index=True)
with right:
    if any(found.roc for found in metrics.per_class.values()):
        parts.chart(charts.roc(metrics))
st.subheader("Hospital by hospital")
parts.chart(charts.hospital_accuracy(meta))
st.table(tables.per_hospital(meta), border="horizontal", hide_index=True)

compared = data.baselines(run)
if compared and compared.differences:
    st.subheader("Against the alternatives")
    parts.chart(baselines.matrix(compared))
    st.table(baselines.differences(compared), border="horizontal", hide_index=True)
    st.caption("Same splits, rounds and passes over each scan. Intervals resample groups of related scans in pairs.")
