"""One file per page of the dashboard, run by `app.py`."""
