"""Hospitals: one hospital's data, and how the global model and its local model perform there."""

import streamlit as st

from medisync.dashboard import components, data
from medisync.reporting import formatting, headlines, sentences, tables
from medisync.reporting.charts import dataset_composition, model_comparison, performance

run = components.require_run()
meta = data.meta(run)
names = list(meta.datasets)

st.title("Hospitals")
if st.session_state.get(data.HOSPITAL_KEY) not in names:  # another run may have other hospitals
    st.session_state[data.HOSPITAL_KEY] = names[0]
picked = st.segmented_control("Hospital", names, key=data.HOSPITAL_KEY, format_func=formatting.plain, required=True)
chosen = picked or names[0]
stats, metrics = meta.datasets[chosen], meta.metrics.hospitals[chosen]
st.markdown(sentences.hospital_summary(chosen, stats))
components.headlines(headlines.hospital(stats, metrics))

left, right = st.columns(2, gap="large")
with left:
    components.chart(dataset_composition.found_and_used(stats))
compared = data.baselines(run)
with right:
    if compared and len(compared.models) > 1:
        components.chart(model_comparison.accuracies(compared, chosen))
    else:
        components.heading("Comparison with the local model")
        st.info("This run trained no models to compare with: see `BASELINES` in the notebook.", icon=":material/info:")

if metrics.n:
    left, right = st.columns(2, gap="large")
    with left:
        components.chart(performance.confusion(metrics))
    with right:
        components.heading("The global model by class")
        components.table(tables.per_class_short(metrics), "Metrics of each class at this hospital")
else:
    st.info("This hospital has no test scans, so its metrics are undefined.", icon=":material/info:")

st.subheader("Sample scans")
samples = data.sample_scans(run, chosen)
components.pictures([(pixels, formatting.CLASS_NAMES[label], "A test scan") for label, pixels in samples])
