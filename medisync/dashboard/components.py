"""The elements that pages draw with: run picker, banner, headline figures, charts, tables, pictures, messages."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray
from streamlit.elements.lib.column_types import ColumnConfig

from medisync.dashboard import data
from medisync.reporting.charts.theme import INK, Chart
from medisync.reporting.formatting import day, escape, sentence
from medisync.reporting.headlines import Headline
from medisync.schemas import Progress
from medisync.workspace.artifacts import RunListing

ABOUT = "MediSync FL: federated learning for brain-tumour MRI. Research use only, not a medical device."

NO_DATASET = "The dataset is not on this machine, so its scans cannot be shown."

PAGES = Path(__file__).parent / "pages"

Picture = tuple[NDArray[np.uint8], str, str]
"""(pixels, caption, what the picture shows, for its alternative text)."""


def require_sign_in() -> None:
    """Ends the page with a sign-in button, if `.streamlit/secrets.toml` has a section `auth` and nobody is signed in."""
    if not st.secrets.load_if_toml_exists() or "auth" not in st.secrets:
        return
    if not st.user.get("is_logged_in", False):
        st.title("Sign in")
        st.write("You need an account to open this dashboard.")
        st.button("Sign in", on_click=st.login, type="primary", icon=":material/login:")
        st.stop()
    st.sidebar.button("Sign out", on_click=st.logout, icon=":material/logout:")


def open_page(name: str) -> None:
    """Switches to another page."""
    st.switch_page(PAGES / f"{name}.py")


def run_picker() -> None:
    """Draws the choice of the run that all pages show, newest first."""
    runs = data.readable()
    unreadable = [listing for listing in data.list_runs() if listing.record is None]
    with st.sidebar:
        if runs:
            if data.lost():
                st.session_state[data.RUN_KEY] = None  # Streamlit would show the newest run instead
            st.selectbox(
                "Run",
                list(runs),
                index=None if data.lost() else 0,
                key=data.RUN_KEY,
                format_func=lambda name: _run_label(runs[name]),
                placeholder="Choose a run",
            )
            data.remember_shown()
        if unreadable:
            reason = "These runs are unfinished or unreadable. The page Runs gives the reasons."
            st.caption(f"{len(unreadable)} not shown: see Runs", help=reason)
        st.caption("Research use only. Not a medical device.")


def _run_label(run: RunListing) -> str:
    return f"{run.name} · {day(run.record.finished_at)}" if run.record else run.name


def synthetic_banner(run: RunListing | None) -> None:
    """Warns if the run was trained on phantoms."""
    if run and run.record and run.record.synthetic:
        st.warning(
            "**Synthetic data.** This run was trained on computer-drawn phantom heads, not on patients. "
            "Its figures say nothing about real scans.",
            icon=":material/science:",
        )


def require_run() -> RunListing:
    """Returns the selected run; if there is none, says how to make one and ends the page."""
    run = data.selected()
    if run is None:
        gone = data.lost()
        if gone:
            _say_lost(gone)
        if not data.readable():
            _no_run(bool(data.list_runs()))
        st.stop()
    if run.note:
        st.caption(sentence(run.note))
    return run


def _say_lost(name: str) -> None:
    is_there = name in [listing.name for listing in data.list_runs()]
    reason = "can no longer be read; the page Runs says why" if is_there else "is no longer there"
    others = "; choose another in the sidebar" if data.readable() else ""
    if others:
        st.title("Choose a run")
    st.warning(f"{escape(name)} {reason}{others}.", icon=":material/report:")


def _no_run(has_unreadable: bool) -> None:
    st.title("No run to show yet")
    if has_unreadable:
        st.warning("This workspace has runs, but none is finished and readable. The page Runs gives the reasons.")
    st.write("The notebook makes a run: it audits the hospitals' scans, trains across them and evaluates the result.")
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
    """Draws headline figures in a row that wraps."""
    with st.container(horizontal=True):
        for figure in figures:
            st.metric(
                figure.label,
                figure.value,
                delta=figure.interval or None,
                delta_color="off",
                delta_arrow="off",
                delta_description=escape(figure.where) or None,
                help=figure.help or None,
                border=True,
                height="stretch",
            )


def heading(text: str) -> None:
    """Draws the heading of a chart, a table or a part of a page."""
    st.markdown(f"##### {escape(text)}")


def chart(drawn: Chart, key: str | None = None) -> None:
    """Draws a chart below its title, which is text because plotly's own titles do not wrap on a phone."""
    heading(drawn.title)
    ink = INK[st.context.theme.type or "light"]
    drawn.figure.update_xaxes(tickfont_color=ink, title_font_color=ink)
    drawn.figure.update_yaxes(tickfont_color=ink, title_font_color=ink)
    drawn.figure.update_traces(textfont_color=ink, selector={"type": "scatter"})
    drawn.figure.update_traces(textfont_color=ink, selector={"textposition": "outside"})
    config = {"displaylogo": False, "modeBarButtons": [["toImage"]]}
    st.plotly_chart(drawn.figure, alt=drawn.alt, config=config, key=key)


def table(found: pd.DataFrame, alt: str) -> None:
    """Draws a short table; a wide one scrolls sideways on a phone. Streamlit reads headings and cells as Markdown."""
    shown = found.reset_index().rename(columns=escape)
    st.table(shown.style.format(_escape_cell), border="horizontal", hide_index=True, alt=alt)


def _escape_cell(cell: object) -> str:
    return escape(str(cell))


def grid(
    found: pd.DataFrame,
    alt: str,
    *,
    height: int | Literal["auto"] = "auto",
    columns: Mapping[str, ColumnConfig] | None = None,
) -> None:
    """Draws a long table that scrolls and can be sorted and searched. Its cells are plain text."""
    st.dataframe(found.reset_index(), height=height, hide_index=True, alt=alt, column_config=columns)


def pictures(found: Sequence[Picture], width: int = 200) -> None:
    """Draws square pictures in a row that wraps, or says that the dataset is not here if there are none."""
    if not found:
        st.caption(NO_DATASET)
    with st.container(horizontal=True):
        for pixels, caption, shown in found:
            with st.container(width=width):
                st.image(pixels, width="stretch", caption=escape(caption), alt=f"{shown}: {caption}")


def model_error(problem: Exception, draw: Callable[..., object] = st.error) -> None:
    """Says that the run's model cannot be loaded, and why."""
    draw(f"The model of this run cannot be used: {sentence(str(problem))}", icon=":material/error:")


def round_progress(progress: Progress) -> None:
    """Draws a bar for the rounds that are done."""
    st.progress(progress.round / max(1, progress.rounds))
