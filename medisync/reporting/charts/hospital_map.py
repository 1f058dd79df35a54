"""A map of the hospitals that needs no server but the dashboard's own."""

import json
import math
import textwrap
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from statistics import mean
from typing import Any

import folium

from medisync.reporting.charts.theme import hospital_colours
from medisync.reporting.formatting import count, plain
from medisync.schemas import DatasetStats

LAND = Path(__file__).parent / "land.geojson"
"""Natural Earth 1:110m land (public domain), to a tenth of a degree; without borders, because some are disputed."""


def draw(datasets: Mapping[str, DatasetStats], *, leaflet: str, dark: bool, online_tiles: bool = False) -> folium.Map:
    """Returns a map with one circle per hospital, whose area is proportional to its number of scans.

    The background is a schematic outline or, with `online_tiles`, OpenStreetMap's tiles from its servers. `leaflet` is the
    address of the dashboard's own copy of Leaflet.
    """
    tiles = "OpenStreetMap" if online_tiles else None
    found = folium.Map(
        tiles=tiles, zoom_control=True, scrollWheelZoom=False, zoomSnap=0.25, attributionControl=online_tiles
    )
    found.default_js = [("leaflet", f"{leaflet}leaflet.js")]
    theme = "dark" if dark else "light"
    found.default_css = [("leaflet_css", f"{leaflet}leaflet.css"), ("theme", f"{leaflet}map-{theme}.css")]
    land: dict[str, object] = {"fillColor": "#26363C" if dark else "#F7F5EF", "color": "#4A5D64" if dark else "#B4BFC2"}
    land |= {"weight": 1, "fillOpacity": 1}
    if not online_tiles:
        folium.GeoJson(json.loads(LAND.read_text()), style_function=lambda _: land, interactive=False).add_to(found)
    colours = hospital_colours(datasets)
    middle = mean([stats.location.lon for stats in datasets.values()] or [0.0])
    largest = max((stats.total for stats in datasets.values()), default=0) or 1
    for name, stats in datasets.items():
        radius = 24 * math.sqrt(stats.total / largest)
        side = "left" if stats.location.lon < middle else "right"
        _marker(name, stats, colours[name], radius, side, labelled=len(datasets) <= 8).add_to(found)
    found.fit_bounds(_bounds(datasets.values()))
    return found


def _marker(
    name: str, stats: DatasetStats, colour: str, radius: float, side: str, labelled: bool
) -> folium.CircleMarker:
    """Returns a hospital's circle, with its label on the outer side, away from the other hospitals."""
    offset = max(radius, 6) * (-1 if side == "left" else 1)
    lines = "<br>".join(_html(line) for line in textwrap.wrap(plain(name), 14))
    text = f"<b>{lines}</b><br>{count(stats.total, 'scan')}"
    return folium.CircleMarker(
        [stats.location.lat, stats.location.lon],
        radius=max(radius, 6),
        color=colour,
        weight=2,
        fill_color=colour,
        fill_opacity=0.6,
        tooltip=folium.Tooltip(text, sticky=False, permanent=labelled, direction=side, offset=[offset, 0]),
    )


def _html(text: str) -> str:
    """Returns `text` escaped for a tooltip: Folium puts it into a JavaScript template literal, where ` and $ are code too."""
    return escape(plain(text)).replace("`", "&#96;").replace("$", "&#36;").replace("\\", "&#92;")


def _bounds(datasets: Iterable[DatasetStats]) -> list[list[float]]:
    """Returns the south-west and north-east corners around all hospitals, with a margin."""
    locations = [stats.location for stats in datasets]
    lats, lons = [location.lat for location in locations], [location.lon for location in locations]
    return [[max(min(lats) - 4, -85), min(lons) - 8], [min(max(lats) + 4, 85), max(lons) + 8]]


def clicked(event: Mapping[str, Any] | None, datasets: Mapping[str, DatasetStats]) -> str | None:
    """Returns the hospital whose circle was clicked: the nearest to the position that the map reports. None without a click."""
    position = (event or {}).get("last_object_clicked")
    if not position:
        return None
    found = (position["lat"], position["lng"])
    return min(datasets, key=lambda name: math.dist(found, (datasets[name].location.lat, datasets[name].location.lon)))
