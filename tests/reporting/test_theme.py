"""The palettes: contrast, colour vision deficiency, and one meaning per colour."""

import itertools
import tomllib
from pathlib import Path

import numpy as np
import pytest

from medisync.reporting.charts import theme

THEME = tomllib.loads((Path(__file__).parent.parent.parent / ".streamlit" / "config.toml").read_text())["theme"]


def contrast(one: str, other: str) -> float:
    """WCAG 2.2 contrast ratio of two #RRGGBB colours."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("background", ["light", "dark"])
@pytest.mark.parametrize(
    "colour",
    [
        *theme.HOSPITAL_COLOURS,
        *theme.CLASS_COLOURS.values(),
        *theme.OUTSIDE_COLOURS,
        *theme.ANSWER_COLOURS.values(),
    ],
)
def test_every_colour_stands_out_from_both_backgrounds(background: str, colour: str) -> None:
    assert contrast(colour, THEME[background]["backgroundColor"]) >= 3


LACKING = {
    "nothing": np.eye(3),
    "long cones": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "middle cones": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "short cones": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
"""Linear RGB as seen without one kind of cones: Machado et al. 2009, https://doi.org/10.1109/TVCG.2009.113."""


def oklab(colour: str, seen: object) -> np.ndarray:
    """Perceived colour: https://bottosson.github.io/posts/oklab/."""
    parts = np.array([int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    cones = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    mixed = np.array(
        [
            [0.2104542553, 0.793617785, -0.0040720468],
            [1.9779984951, -2.428592205, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.808675766],
        ]
    )
    return mixed @ np.cbrt(cones @ np.clip(np.asarray(seen) @ linear, 0, 1))


@pytest.mark.parametrize("lacking", LACKING)
@pytest.mark.parametrize(
    "palette",
    [
        list(theme.CLASS_COLOURS.values()),
        list(theme.HOSPITAL_COLOURS[:3]),
        [theme.GLOBAL, *theme.OUTSIDE_COLOURS],
        list(theme.ANSWER_COLOURS.values())[:3],  # the fourth is hatched
    ],
    ids=["classes", "hospitals", "outside", "answers"],
)
def test_colours_can_be_told_apart_with_colour_vision_deficiency(palette: list[str], lacking: str) -> None:
    # 0.02 is a just noticeable difference; red and olive were 0.06 apart and hard to match with a legend
    seen = [oklab(colour, LACKING[lacking]) for colour in palette]
    assert min(np.linalg.norm(one - other) for one, other in itertools.combinations(seen, 2)) > 0.09


@pytest.mark.parametrize(
    "colour", [*theme.HOSPITAL_COLOURS, *theme.CLASS_COLOURS.values(), *theme.ANSWER_COLOURS.values()]
)
def test_numbers_on_bars_are_legible(colour: str) -> None:
    ink = {"black": "#000000", "white": "#FFFFFF"}[theme.ink_on(colour)]
    assert contrast(ink, colour) >= 4.5


def test_axis_labels_are_legible() -> None:
    assert all(contrast(theme.INK[name], THEME[name]["backgroundColor"]) >= 4.5 for name in ("light", "dark"))


def test_hospitals_and_classes_share_no_colour() -> None:
    assert not set(theme.HOSPITAL_COLOURS) & set(theme.CLASS_COLOURS.values())
    assert THEME["chartCategoricalColors"] == list(theme.HOSPITAL_COLOURS)
