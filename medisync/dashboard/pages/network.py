"""The federation at a glance: what the run is, how good its model is, which hospitals took part."""

import streamlit as st
from streamlit_folium import st_folium

from medisync.dashboard import charts, data, hospital_map, tables
from medisync.dashboard.pages import parts

run = parts.require_run()
meta = data.meta(run)
dark = st.context.theme.type == "dark"

st.title("The network")
st.markdown(tables.summary(data.record(run), meta))

st.subheader("How good the global model is")
parts.headlines(tables.headlines(meta.metrics.test))
st.caption(tables.test_set_note(meta))

st.subheader("The hospitals")
st.table(tables.hospitals(meta), border="horizontal", hide_index=True)
left, right = st.columns(2, gap="large")
with left:
    st.markdown("##### Where they are")
    found = hospital_map.draw(meta.datasets, leaflet=data.leaflet_address(), dark=dark)
    st_folium(found, height=380, use_container_width=True, returned_objects=[], key=f"map-{run.name}-{dark}")
    st.caption("A larger circle has more scans. Schematic outline (Natural Earth), no borders drawn.")
with right:
    parts.chart(charts.class_distribution(meta.datasets))
