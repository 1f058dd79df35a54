"""The dashboard's frame: its pages, the run that they show, sign-in and warnings that apply to all pages."""

from pathlib import Path

import streamlit as st

from medisync.dashboard import components, data
from medisync.errors import ArtifactError
from medisync.reporting import formatting

DASHBOARD = Path(data.__file__).parent
PAGES, STATIC = DASHBOARD / "pages", DASHBOARD / "static"

st.set_page_config("MediSync FL", str(STATIC / "icon.svg"), layout="wide", menu_items={"About": components.ABOUT})
st.logo(str(STATIC / "logo.svg"), size="large", icon_image=str(STATIC / "icon.svg"))
components.require_sign_in()
page = st.navigation(
    {
        "This run": [
            st.Page(PAGES / "overview.py", title="Overview", icon=":material/hub:", default=True),
            st.Page(PAGES / "hospitals.py", title="Hospitals", icon=":material/local_hospital:"),
            st.Page(PAGES / "data_audit.py", title="Data audit", icon=":material/fact_check:"),
            st.Page(PAGES / "training.py", title="Training", icon=":material/show_chart:"),
            st.Page(PAGES / "evaluation.py", title="Evaluation", icon=":material/grid_on:"),
        ],
        "Use": [st.Page(PAGES / "prediction.py", title="Prediction", icon=":material/image_search:")],
        "Workspace": [
            st.Page(PAGES / "runs.py", title="Runs", icon=":material/history:"),
            st.Page(PAGES / "logs.py", title="Logs", icon=":material/article:"),
        ],
    }
)
components.run_picker()
components.synthetic_banner(data.selected())
try:
    page.run()
except ArtifactError as problem:
    st.error(f"This page cannot be shown for this run: {formatting.sentence(str(problem))}", icon=":material/error:")
