"""The run at a glance: what it is, how good its model is, whether federating was worth it, which hospitals took part."""

from pathlib import Path

import streamlit as st
from streamlit_folium import st_folium

from medisync.dashboard import components, data
from medisync.reporting.charts import dataset_composition, hospital_map, model_comparison, performance
from medisync.reporting.tables import metric_tables


def show_map() -> None:
    """A click on a hospital opens its page."""
    online = st.session_state.get("online-tiles", False)
    found = hospital_map.draw(meta.datasets, leaflet=data.leaflet_address(), dark=dark, online_tiles=online)
    key = f"map-{run.name}-{dark}-{online}"
    event = st_folium(found, height=380, use_container_width=True, returned_objects=["last_object_clicked"], key=key)
    hospital = hospital_map.clicked(event, meta.datasets)
    if hospital:
        st.session_state[data.HOSPITAL_KEY] = hospital
        st.switch_page(Path(__file__).parent / "hospitals.py")
    st.caption(
        "Click a hospital to open it. A larger circle has more scans. Schematic outline (Natural Earth), no borders drawn."
    )
    st.toggle(
        "Street map from OpenStreetMap",
        key="online-tiles",
        help="Off, this page asks no other server. On, your browser fetches map tiles from openstreetmap.org.",
    )


run = components.require_run()
meta = data.meta(run)
compared = data.baselines(run)
dark = st.context.theme.type == "dark"

st.title("Overview")
st.markdown(metric_tables.summary(data.record(run), meta))

st.subheader("How good the global model is")
components.headlines(metric_tables.headlines(meta.metrics.test))
st.caption(metric_tables.test_set_note(meta))

left, right = st.columns(2, gap="large")
with left:
    if compared and len(compared.models) > 1:
        st.subheader("Was federating worth it")
        components.chart(model_comparison.accuracies(compared))
    else:
        st.subheader("Hospital by hospital")
        components.chart(performance.hospital_accuracy(meta))
with right:
    st.subheader("Where the hospitals are")
    show_map()

st.subheader("What each hospital brings, and what it gets")
left, right = st.columns(2, gap="large")
with left:
    components.chart(dataset_composition.class_distribution(meta.datasets))
with right:
    st.markdown("##### The global model at each hospital")
    components.table(metric_tables.hospitals(meta), "Scans, missing classes and test accuracy of each hospital")
