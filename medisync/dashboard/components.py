"""What several pages draw alike: the run picker, the banner, headline figures, charts, tables, pictures in a row."""

from collections.abc import Sequence

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from pandas.io.formats.style import Styler

from medisync.dashboard import data
from medisync.reporting.charts.theme import INK, Chart
from medisync.reporting.formatting import day, escape
from medisync.reporting.tables.metric_tables import Headline
from medisync.workspace.artifacts import RunListing

ABOUT = "MediSync FL: federated learning for brain-tumour MRI. Research use only, not a medical device."


def require_sign_in() -> None:
    """Where `.streamlit/secrets.toml` has a section `auth`, nobody goes on before signing in there."""
    if not st.secrets.load_if_toml_exists() or "auth" not in st.secrets:
        return
    if not st.user.get("is_logged_in", False):
        st.title("Sign in")
        st.write("This dashboard is open to people whom its institution knows.")
        st.button("Sign in", on_click=st.login, type="primary", icon=":material/login:")
        st.stop()
    st.sidebar.button("Sign out", on_click=st.logout, icon=":material/logout:")


def run_picker() -> None:
    """The choice of the run that all pages show, newest readable one first."""
    runs = data.readable()
    unreadable = [listing for listing in data.list_runs() if listing.record is None]
    with st.sidebar:
        if runs:
            st.selectbox("Run", list(runs), key=data.RUN_KEY, format_func=lambda name: _run_label(runs[name]))
        if unreadable:
            st.caption(
                f"{len(unreadable)} not shown: see Runs", help="Unfinished or unreadable, with the reason there."
            )
        st.caption("Research use only. Not a medical device.")


def _run_label(run: RunListing) -> str:
    return f"{run.name} · {day(run.record.finished_at)}" if run.record else run.name


def synthetic_banner(run: RunListing | None) -> None:
    if run and run.record and run.record.synthetic:
        st.warning(
            "**Synthetic data.** This run was trained on computer-drawn phantom heads, not on patients. "
            "Its figures say nothing about real scans.",
            icon=":material/science:",
        )


def require_run() -> RunListing:
    """The selected run; where there is none, says what to do and ends the page."""
    run = data.selected()
    if run is None:
        _no_run(bool(data.list_runs()))
        st.stop()
    return run


def _no_run(has_unreadable: bool) -> None:
    st.title("No run to show yet")
    if has_unreadable:
        st.warning("There are runs in this workspace, but none is finished and readable: the page Runs says why.")
    st.write(
        "A run is made by the notebook: it audits the hospitals' scans, trains across them and evaluates the result."
    )
    demo, real = st.columns(2, border=True)
    with demo:
        st.subheader("Try it on synthetic scans")
        st.write("Draws three phantom hospitals, trains on them in minutes and opens this dashboard.")
        st.code("make demo", language="shell")
    with real:
        st.subheader("Use your own scans")
        st.write("Put the hospitals' folders under `dataset/`, then run all cells of `notebook.ipynb`, or:")
        st.code("medisync train", language="shell")


def headlines(figures: Sequence[Headline]) -> None:
    with st.container(horizontal=True):
        for figure in figures:
            st.metric(
                figure.label,
                figure.value,
                delta=figure.interval or None,
                delta_color="off",
                delta_arrow="off",
                help=figure.help or None,
                border=True,
                height="stretch",
            )


def chart(drawn: Chart, key: str | None = None) -> None:
    """The title stands above the figure as text: it wraps on a phone, which plotly's own does not."""
    st.markdown(f"##### {drawn.title}")
    ink = INK[st.context.theme.type or "light"]
    drawn.figure.update_xaxes(tickfont_color=ink, title_font_color=ink)
    drawn.figure.update_yaxes(tickfont_color=ink, title_font_color=ink)
    config = {"displaylogo": False, "modeBarButtons": [["toImage"]]}
    st.plotly_chart(drawn.figure, alt=drawn.alt, config=config, key=key)


def table(found: Styler, alt: str) -> None:
    """A table that is read as text; a wide one scrolls sideways on a phone."""
    st.table(found, border="horizontal", hide_index=True, alt=alt)


def pictures(found: Sequence[tuple[NDArray[np.uint8], str, str]], width: int = 200) -> None:
    """Square pictures in a row that wraps: (pixels, caption, what it is for who cannot see it)."""
    with st.container(horizontal=True):
        for pixels, caption, alt in found:
            with st.container(width=width):
                st.image(pixels, width="stretch", caption=escape(caption), alt=f"{alt}: {caption}")
