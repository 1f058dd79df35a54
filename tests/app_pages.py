"""The dashboard opened in a test, without a browser. One time-out for all tests, long enough for a busy machine."""

from pathlib import Path

from streamlit.testing.v1 import AppTest

APP = Path(__file__).parent.parent / "app.py"
PAGES = APP.parent / "medisync" / "dashboard" / "pages"

TIMEOUT = 600
"""Seconds for one run of a page."""


def new_app() -> AppTest:
    """Returns the dashboard before its first run."""
    return AppTest.from_file(APP, default_timeout=TIMEOUT)


def switch(app: AppTest, name: str) -> AppTest:
    """Returns the dashboard after it has switched to a page."""
    return app.switch_page(str(PAGES / f"{name}.py")).run()


def open_page(name: str) -> AppTest:
    """Returns the dashboard on a page, which raised nothing."""
    app = switch(new_app().run(), name)
    assert not app.exception
    return app
