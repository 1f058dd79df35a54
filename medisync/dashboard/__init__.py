"""The dashboard, presentation only: it picks a run, fetches its records, handles missing ones, and draws.

Takes records from the workspace and tables, charts and text from `reporting`; gives Streamlit pages. The only package
that imports streamlit. Opening a page does not import torch: only a prediction does. Uploads stay in the session that
sent them.
"""
