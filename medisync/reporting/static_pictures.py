"""Charts as PNG, for places that show no interactive figure, such as GitHub's page of an executed notebook.

plotly draws a figure in a browser. Where neither Chrome nor Chromium is installed there are no static pictures, and the
interactive figures are all there is.
"""

import atexit
import functools
import warnings

import kaleido
import plotly.graph_objects as go

WIDTH = 900
"""Pixels: the width of a notebook's cell."""

SCALE = 1.5
"""Pixels of the PNG in one pixel of the figure."""


@functools.cache
def _has_browser() -> bool:
    """Starts one browser for all pictures of this process: each browser takes seconds to start.

    An empty figure is drawn first, because a server without a browser would wait without end. Without MathJax, which no
    title needs, the browser's page asks no other machine for anything.
    """
    try:
        kaleido.calc_fig_sync({"data": []}, opts={"format": "png"}, kopts={"mathjax": False})
    except RuntimeError:  # no browser was found, or it does not start
        return False
    kaleido.start_sync_server(mathjax=False, silence_warnings=True)
    atexit.register(kaleido.stop_sync_server, silence_warnings=True)
    return True


def png(figure: go.Figure) -> bytes | None:
    """Returns the figure as the bytes of a PNG file; None where no browser can draw it."""
    if not _has_browser():
        return None
    options = {"format": "png", "width": WIDTH, "height": figure.layout.height, "scale": SCALE}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # choreographer's, about the files that its browser leaves
        drawn: bytes = kaleido.calc_fig_sync(figure, opts=options)
    return drawn
