"""Measures how long the dashboard takes: the script of every page, a prediction and its heat map (medians after warming up).

    .venv/bin/python benchmarks/dashboard_pages.py [--repeats 5]

Opens the newest run of the project, or of the workspace in MEDISYNC_WORKSPACE. Prints the medians and writes nothing.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from streamlit.testing.v1 import AppTest

ROOT = Path(__file__).parent.parent
DASHBOARD = ROOT / "medisync" / "dashboard"
PAGES = ("overview", "hospitals", "data_audit", "training", "evaluation", "prediction", "runs", "logs")
LIMITS_MS = {"first opening": 1500, "overview": 1500, "prediction of a scan": 150, "heat map": 400}
PAGE_LIMIT_MS = 700


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    _show("first opening", [_timed(app.run)])
    for page in PAGES:
        app.switch_page(str(DASHBOARD / "pages" / f"{page}.py"))
        app.run()
        _show(page, [_timed(app.run) for _ in range(repeats)])
        if app.exception:
            raise SystemExit(f"{page}: {app.exception[0].value}")
    print(f"torch imported by the pages: {'yes' if 'torch' in sys.modules else 'no'}")
    for name, ask in _questions().items():
        ask()
        _show(name, [_timed(ask) for _ in range(3 * repeats)])
    return 0


def _questions() -> dict[str, Callable[[], object]]:
    """Returns what the page Prediction asks of the model for one scan, by name."""
    from medisync.imaging.decoding import decode
    from medisync.imaging.preprocessing import standardise
    from medisync.inference import explanation, predictor
    from medisync.workspace import artifacts

    folder = artifacts.list_runs(artifacts.locate(None))[0].folder
    classifier = predictor.open_run(folder)
    content = (DASHBOARD / "samples" / "glioma.png").read_bytes()
    pixels = standardise(decode(content).pixels, classifier.meta.image_size)
    return {
        "prediction of a scan": lambda: predictor.predict(classifier, content),
        "heat map": lambda: explanation.explain(classifier, pixels, "glioma"),
    }


def _timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return 1000 * (time.perf_counter() - started)


def _show(name: str, milliseconds: list[float]) -> None:
    limit = LIMITS_MS.get(name, PAGE_LIMIT_MS)
    print(f"{name:24}{statistics.median(milliseconds):8.0f} ms   at most {limit} ms", flush=True)


if __name__ == "__main__":
    sys.exit(main())
