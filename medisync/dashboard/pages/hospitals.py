"""One hospital: what it brought, how its scans look, and how the global model does there against its own."""

import streamlit as st

from medisync.dashboard import baselines, charts, data, tables, words
from medisync.dashboard.pages import parts

run = parts.require_run()
meta = data.meta(run)

st.title("Hospitals")
chosen = st.segmented_control(
    "Hospital", list(meta.datasets), default=next(iter(meta.datasets)), format_func=words.plain, required=True
)
stats, metrics = meta.datasets[chosen], meta.metrics.hospitals[chosen]
st.markdown(tables.hospital_summary(chosen, stats))
parts.headlines(tables.hospital_headlines(stats, metrics))

left, right = st.columns(2, gap="large")
with left:
    parts.chart(charts.found_and_used(stats))
compared = data.baselines(run)
with right:
    if compared and len(compared.models) > 1:
        parts.chart(baselines.at_hospital(compared, chosen))
    else:
        st.markdown("##### The global model against the hospital's own")
        st.info("This run trained no model to compare with: see `BASELINES` in the notebook.", icon=":material/info:")

if metrics.n:
    left, right = st.columns(2, gap="large")
    with left:
        parts.chart(charts.confusion(metrics))
    with right:
        st.markdown("##### Class by class, the global model")
        st.table(tables.per_class(metrics), border="horizontal", hide_index=True)
else:
    st.info("This hospital has no test scans, so its metrics are undefined.", icon=":material/info:")

st.subheader("Scans of this hospital")
samples = data.sample_scans(run, chosen)
if not samples:
    st.caption("The dataset is not on this machine, so there is nothing to show.")
    st.stop()
for column, (label, pixels) in zip(st.columns(len(samples)), samples, strict=True):
    name = words.CLASS_NAMES[label]
    column.image(pixels, width="stretch", caption=name, alt=f"A test scan: {name}")
