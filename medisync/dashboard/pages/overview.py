"""Overview: the run, the global model's test results, the benefit of federation, and the hospitals."""

import streamlit as st
from streamlit_folium import st_folium

from medisync.dashboard import components, data
from medisync.reporting import headlines, sentences, tables
from medisync.reporting.charts import dataset_composition, hospital_map, model_comparison, performance
from medisync.schemas import ModelMeta

ONLINE_TILES_KEY = "online-tiles"


def show_map(run_name: str, meta: ModelMeta) -> None:
    """Draws the hospitals on a map; a click on one opens its page."""
    online, dark = st.session_state.get(ONLINE_TILES_KEY, False), st.context.theme.type == "dark"
    found = hospital_map.draw(meta.datasets, leaflet=data.leaflet_address(), dark=dark, online_tiles=online)
    key = f"map-{run_name}-{dark}-{online}"
    event = st_folium(found, height=380, use_container_width=True, returned_objects=["last_object_clicked"], key=key)
    hospital = hospital_map.clicked(event, meta.datasets)
    if hospital:
        st.session_state[data.HOSPITAL_KEY] = hospital
        components.open_page("hospitals")
    st.caption("Click a hospital to open its page. Circle areas are proportional to the number of scans.")
    st.toggle(
        "Street map from OpenStreetMap",
        key=ONLINE_TILES_KEY,
        help="Off: a schematic outline (Natural Earth) and no requests to other servers. On: your browser fetches map "
        "tiles from openstreetmap.org.",
    )


run = components.require_run()
meta = data.meta(run)
compared = data.baselines(run)

st.title("Overview")
st.markdown(sentences.run_summary(data.record(run), meta))

st.subheader("Performance of the global model")
components.headlines(headlines.test_metrics(meta.metrics.test, meta.metrics.hospitals))
st.caption(sentences.test_set_note(meta))
st.caption(sentences.outside_in_short(data.external(run)))

left, right = st.columns(2, gap="large")
with left:
    if compared and len(compared.models) > 1:
        st.subheader("Federated, local and pooled training")
        components.chart(model_comparison.accuracies(compared))
    else:
        st.subheader("Performance by hospital")
        components.chart(performance.hospital_accuracy(meta))
with right:
    st.subheader("Hospitals")
    show_map(run.name, meta)

st.subheader("Data and test accuracy by hospital")
left, right = st.columns(2, gap="large")
with left:
    components.chart(dataset_composition.class_distribution(meta.datasets))
with right:
    components.heading("The global model at each hospital")
    components.table(tables.hospitals(meta), "Scans, missing classes and test accuracy of each hospital")
