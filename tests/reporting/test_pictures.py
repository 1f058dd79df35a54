"""Heat maps over scans."""

import numpy as np

from medisync.reporting import pictures


def test_overlay_leaves_cold_places_grey_and_follows_the_opacity() -> None:
    pixels, heat = np.full((2, 2), 100, np.uint8), np.array([[0.0, 1.0], [0.5, 0.0]])
    assert (pictures.overlay(pixels, heat, 0.0) == 100).all()
    drawn = pictures.overlay(pixels, heat, 1.0)
    assert drawn[0, 0].tolist() == [100, 100, 100]
    assert drawn[0, 1].tolist() == list(pictures.HEAT_COLOURS[-1])
    assert pictures.overlay(pixels, heat, 0.5)[0, 1].tolist() == [178, 168, 115]  # half way, rounded to even
