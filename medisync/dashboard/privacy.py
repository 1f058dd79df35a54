"""The privacy of a run, as a page draws it: the attacks on its model, and what leaves a hospital."""

import streamlit as st

from medisync.dashboard import components, data
from medisync.reporting import disclosure, membership
from medisync.reporting.charts import membership_inference
from medisync.workspace.artifacts import RunListing


def show(run: RunListing) -> None:
    """Draws how well training scans can be told from others, beside chance, and what leaves a hospital."""
    st.subheader("Privacy")
    attacked = data.membership(run)
    if found := membership.warning(attacked):
        st.warning(found, icon=":material/visibility:")
    st.markdown(membership.summary(attacked))
    if attacked and attacked.attacks:
        components.chart(membership_inference.areas(attacked))
        with st.expander("Attacks, one by one"):
            components.table(membership.attacks(attacked), "Every attack on the model, with 95 % intervals")
            st.caption(membership.METHOD)
    with st.expander("What leaves a hospital"):
        st.markdown(disclosure.introduction(data.record(run)))
        components.table(disclosure.leaving(data.record(run)), "What leaves a hospital, who sees it and what it says")
        st.caption(disclosure.NOT_COVERED)
