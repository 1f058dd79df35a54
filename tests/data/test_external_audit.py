"""External datasets: what a hospital has too is left out, and nothing that is said of hospitals depends on them."""

from pathlib import Path

import numpy as np
import pytest
from scans import hospital, save, texture

from medisync.config import ExternalDataset
from medisync.data import audit
from medisync.data.external_audit import evaluated_folders
from medisync.errors import DataError
from medisync.schemas import AuditRecord, ExternalAudit

HOSPITALS = (hospital("North", "north"), hospital("South", "south"))
OUTSIDE = ExternalDataset(
    name="outside", path="outside", class_map={"Glioma": "glioma", "healthy": "notumor", "odd": "other"}
)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two hospitals that share a slice, and four scans from elsewhere that nobody has."""
    for number in range(4):
        save(tmp_path / f"north/glioma/{number}.png", texture(number))
        save(tmp_path / f"south/no tumor/{number}.png", texture(10 + number))
        save(
            tmp_path / f"outside/{('glioma', 'healthy', 'odd', 'odd/deep')[number]}/{number}.png", texture(20 + number)
        )
    save(tmp_path / "south/glioma/copy.png", texture(0))
    return tmp_path


def run(dataset: Path, cache: Path | None = None) -> AuditRecord:
    return audit.audit_hospitals(HOSPITALS, dataset, cache, [OUTSIDE])


def outside(dataset: Path) -> ExternalAudit:
    return run(dataset).external["outside"]


def excluded(found: ExternalAudit) -> dict[str, str]:
    return {Path(image.path).name: image.excluded for image in found.images if image.excluded}


def test_scans_that_nobody_has_are_evaluated(dataset: Path) -> None:
    found = outside(dataset)
    assert (found.total, found.excluded) == (4, {})
    assert [image.label for image in found.images] == ["glioma", "notumor", "other", "other"]
    assert [(each.name, each.images) for each in evaluated_folders(found)] == [
        ("glioma", 1),
        ("healthy", 1),
        ("odd", 2),
    ]


def test_copies_of_a_hospitals_scan_are_left_out_however_many_and_however_stored(dataset: Path) -> None:
    """More copies than an image has candidates, of a slice that no two external scans would lead to."""
    save(dataset / "outside/odd/mirrored.png", texture(1)[:, ::-1])
    for number in range(15):
        save(dataset / f"outside/odd/again {number}.jpg", np.maximum(texture(2), number), quality=90)
    found = outside(dataset)
    assert excluded(found).keys() == {"mirrored.png", *(f"again {number}.jpg" for number in range(15))}
    assert (found.total, found.excluded) == (4, {"copies of hospitals' scans": 16})


def test_scans_of_a_patient_whose_other_scan_a_hospital_has_are_left_out(dataset: Path) -> None:
    save(dataset / "outside/odd/copy.png", texture(1))
    (dataset / "outside/patients.csv").write_text("path,patient\nodd/copy.png,7\nodd/2.png,7\n")
    found = outside(dataset)
    assert found.excluded == {"of one patient with copies of hospitals' scans": 1, "copies of hospitals' scans": 1}
    assert excluded(found)["2.png"].startswith("of one patient")


def test_what_cannot_be_evaluated_is_counted_by_reason(dataset: Path) -> None:
    (dataset / "outside/odd/broken.png").write_bytes(b"no")
    save(dataset / "outside/misc/a.png", texture(30))
    save(dataset / "outside/odd/0.png", texture(20))  # a glioma in outside/glioma
    (dataset / "outside/notes.txt").write_text("text")
    found = outside(dataset)
    assert found.excluded == {"unreadable": 1, "in no class folder": 1, "of one slice under several labels": 2}
    assert found.skipped == {"not an image (.txt)": 1}
    assert excluded(found)["broken.png"].startswith("unreadable: not an image")
    assert [(each.name, each.images) for each in evaluated_folders(found)] == [
        ("glioma", 0),
        ("healthy", 1),
        ("odd", 2),
    ]
    lines = audit.log_lines(run(dataset))
    assert "outside: external dataset: 3 images to evaluate in outside, none to train on" in lines
    assert "outside: left out 2 of one slice under several labels" in lines
    assert any("broken.png: unreadable" in line for line in lines)
    assert "folder 'misc' is not in the class map: 1 image left out" in audit.brief(run(dataset))


def test_nothing_that_is_said_of_hospitals_depends_on_an_external_dataset(dataset: Path) -> None:
    """The external scans are copies of both hospitals' scans, under other labels and of one patient."""
    for number in range(4):
        save(dataset / f"outside/odd/n{number}.png", texture(number))
        save(dataset / f"outside/odd/s{number}.png", texture(10 + number))
    rows = "".join(f"odd/{each}{number}.png,7\n" for each in "ns" for number in range(4))
    (dataset / "outside/patients.csv").write_text(f"path,patient\n{rows}")
    alone = audit.audit_hospitals(HOSPITALS, dataset)
    assert run(dataset).model_copy(update={"external": {}}) == alone
    assert alone.overlaps


def test_a_dataset_of_which_nothing_can_be_evaluated_ends_the_run_before_it_trains(dataset: Path) -> None:
    audit.require_images(run(dataset), HOSPITALS, dataset)
    for number, folder in enumerate(("glioma", "healthy", "odd", "odd/deep")):
        save(dataset / f"outside/{folder}/{number}.png", texture(number))
    with pytest.raises(DataError, match=r"'outside': no image to evaluate in .*outside/: 4 copies of hospitals' scans"):
        audit.require_images(run(dataset), HOSPITALS, dataset)
    missing = audit.audit_hospitals(HOSPITALS, dataset, external=[OUTSIDE.model_copy(update={"path": "nowhere"})])
    with pytest.raises(DataError, match="the dataset folder has no folder 'nowhere'"):
        audit.require_images(missing, HOSPITALS, dataset)


def test_a_stored_audit_is_not_used_once_an_external_scan_has_changed(dataset: Path) -> None:
    cache = dataset / "cache"
    before = run(dataset, cache)
    assert run(dataset, cache) == before
    save(dataset / "outside/odd/2.png", texture(1))
    assert run(dataset, cache).external["outside"].total == 3
    assert audit.audit_hospitals(HOSPITALS, dataset, cache).external == {}
