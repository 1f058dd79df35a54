"""Names of files and folders of hospitals: unique, safe, and the same wherever they are made."""

import pytest

from medisync.workspace.folder_names import folder_names

PUBLISHED = {
    "AIIMS Delhi": "aiims-delhi",
    "NIMHANS Bengaluru": "nimhans-bengaluru",
    "Tata Memorial Mumbai": "tata-memorial-mumbai",
}
ALIKE = [
    "St Mary's",
    "St. Mary's",
    "ST MARYS",
    "Charite",
    "Charité",
    "Ward 1",
    "Ward-1",
    "Ward  1",
    "Kelvin",
    "\u212aelvin",
]
ALIKE += [
    "東京大学病院",
    "大阪大学病院",
    "🏥",
    "مستشفى",
    "‮North",
    "North",
    "...",
    "../../etc",
    "CON",
    "aux",
    "x" * 80,
    "x" * 79,
]
ALIKE += ["hospital-16a9489d", "hospital 16a9489d"]


def test_published_folder_names_stay() -> None:
    assert folder_names(list(PUBLISHED)) == PUBLISHED
    assert {name: folder_names([name])[name] for name in PUBLISHED} == PUBLISHED


def test_folder_names_are_unique_bounded_and_safe_on_every_file_system() -> None:
    found = folder_names([*PUBLISHED, *ALIKE]).values()
    assert len(set(found)) == len(PUBLISHED) + len(ALIKE)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for name in found)
    assert all(name.strip("-") == name for name in found)
    assert max(map(len, found)) == 57  # 48 letters, a hyphen, 8 digits of the hash
    assert not {"con", "aux", "hospital", ""} & set(found)
    assert len(folder_names(["y" * 300])["y" * 300]) == 57


@pytest.mark.parametrize("name", [*PUBLISHED, *ALIKE])
def test_a_folder_name_does_not_depend_on_the_other_hospitals(name: str) -> None:
    assert folder_names([name])[name] == folder_names([*PUBLISHED, *ALIKE])[name]


def test_names_that_differ_in_case_alone_get_a_hash_each() -> None:
    found = folder_names(["AIIMS Delhi", "Aiims Delhi", "North"])
    assert len(set(found.values())) == 3
    assert found["AIIMS Delhi"].startswith("aiims-delhi-")
    assert found["North"] == "north"


def test_a_name_with_composed_and_with_separate_accents_has_one_folder() -> None:
    assert folder_names(["Charit\u00e9"])["Charit\u00e9"] == folder_names(["Charite\u0301"])["Charite\u0301"]
