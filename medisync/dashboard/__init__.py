"""Presentation only: picks a run, fetches its records, handles what is missing, and draws.

Takes records from the workspace and tables, charts and text from `reporting`; gives Streamlit pages. The only package
that imports streamlit. Opening it imports no torch: only a prediction does. Uploads stay in the session that sent them.
"""
