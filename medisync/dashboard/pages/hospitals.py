"""One hospital: what it brought, how its scans look, and how the global model does there against its own."""

import streamlit as st

from medisync.dashboard import baselines, data, holdings, performance, tables, words
from medisync.dashboard.pages import parts

run = parts.require_run()
meta = data.meta(run)
names = list(meta.datasets)

st.title("Hospitals")
if st.session_state.get(data.HOSPITAL_KEY) not in names:  # another run may have other hospitals
    st.session_state[data.HOSPITAL_KEY] = names[0]
picked = st.segmented_control("Hospital", names, key=data.HOSPITAL_KEY, format_func=words.plain, required=True)
chosen = picked or names[0]
stats, metrics = meta.datasets[chosen], meta.metrics.hospitals[chosen]
st.markdown(tables.hospital_summary(chosen, stats))
parts.headlines(tables.hospital_headlines(stats, metrics))

left, right = st.columns(2, gap="large")
with left:
    parts.chart(holdings.found_and_used(stats))
compared = data.baselines(run)
with right:
    if compared and len(compared.models) > 1:
        parts.chart(baselines.accuracies(compared, chosen))
    else:
        st.markdown("##### The global model against the hospital's own")
        st.info("This run trained no model to compare with: see `BASELINES` in the notebook.", icon=":material/info:")

if metrics.n:
    left, right = st.columns(2, gap="large")
    with left:
        parts.chart(performance.confusion(metrics))
    with right:
        st.markdown("##### Class by class, the global model")
        parts.table(tables.per_class(metrics), "Figures of each class at this hospital")
else:
    st.info("This hospital has no test scans, so its metrics are undefined.", icon=":material/info:")

st.subheader("Scans of this hospital")
samples = data.sample_scans(run, chosen)
if not samples:
    st.caption("The dataset is not on this machine, so there is nothing to show.")
    st.stop()
parts.pictures([(pixels, words.CLASS_NAMES[label], "A test scan") for label, pixels in samples])
