"""One hospital: what it brought, how its scans look, and how the global model does there against its own."""

import streamlit as st

from medisync.dashboard import components, data
from medisync.reporting import formatting
from medisync.reporting.charts import dataset_composition, model_comparison, performance
from medisync.reporting.tables import metric_tables

run = components.require_run()
meta = data.meta(run)
names = list(meta.datasets)

st.title("Hospitals")
if st.session_state.get(data.HOSPITAL_KEY) not in names:  # another run may have other hospitals
    st.session_state[data.HOSPITAL_KEY] = names[0]
picked = st.segmented_control("Hospital", names, key=data.HOSPITAL_KEY, format_func=formatting.plain, required=True)
chosen = picked or names[0]
stats, metrics = meta.datasets[chosen], meta.metrics.hospitals[chosen]
st.markdown(metric_tables.hospital_summary(chosen, stats))
components.headlines(metric_tables.hospital_headlines(stats, metrics))

left, right = st.columns(2, gap="large")
with left:
    components.chart(dataset_composition.found_and_used(stats))
compared = data.baselines(run)
with right:
    if compared and len(compared.models) > 1:
        components.chart(model_comparison.accuracies(compared, chosen))
    else:
        st.markdown("##### The global model against the hospital's own")
        st.info("This run trained no model to compare with: see `BASELINES` in the notebook.", icon=":material/info:")

if metrics.n:
    left, right = st.columns(2, gap="large")
    with left:
        components.chart(performance.confusion(metrics))
    with right:
        st.markdown("##### Class by class, the global model")
        components.table(metric_tables.per_class(metrics), "Figures of each class at this hospital")
else:
    st.info("This hospital has no test scans, so its metrics are undefined.", icon=":material/info:")

st.subheader("Scans of this hospital")
samples = data.sample_scans(run, chosen)
if not samples:
    st.caption("The dataset is not on this machine, so there is nothing to show.")
    st.stop()
components.pictures([(pixels, formatting.CLASS_NAMES[label], "A test scan") for label, pixels in samples])
