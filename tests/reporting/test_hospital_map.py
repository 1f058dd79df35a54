"""The map of the hospitals: clicks, requests to other hosts, and names from outside."""

import factories

from medisync.reporting.charts import hospital_map
from medisync.schemas import DatasetStats, Location


def test_a_click_on_a_marker_is_a_click_on_that_hospital() -> None:
    datasets = factories.datasets()
    place = datasets["NIMHANS Bengaluru"].location
    event = {"last_object_clicked": {"lat": place.lat + 0.4, "lng": place.lon - 0.3}}
    assert hospital_map.clicked(event, datasets) == "NIMHANS Bengaluru"
    assert hospital_map.clicked({"last_object_clicked": None}, datasets) is None
    assert hospital_map.clicked(None, datasets) is None


def test_street_tiles_come_only_when_asked_for() -> None:
    page = hospital_map.draw(factories.datasets(), leaflet="", dark=False, online_tiles=True).get_root().render()
    assert "https://tile.openstreetmap.org" in page
    assert "OpenStreetMap" in page


def test_map_asks_nothing_of_another_host() -> None:
    page = hospital_map.draw(factories.datasets(), leaflet="../own/", dark=True).get_root().render()
    assert "../own/leaflet.js" in page
    assert "http://" not in page
    assert "https://" not in page


def test_map_shows_a_hospital_name_as_text_and_runs_none_of_it() -> None:
    name = "<script>x</script>`${alert(1)}`"
    stats = DatasetStats(total=1, class_distribution={}, location=Location(lat=-33.9, lon=151.2))
    page = hospital_map.draw({name: stats}, leaflet="", dark=False).get_root().render()
    assert "<script>x" not in page
    assert "${alert" not in page
    assert "&lt;script&gt;x" in page
