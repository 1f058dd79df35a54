"""The synthetic hospitals: drawings, folder layout, and planted faults."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError
from scipy import ndimage

from medisync.errors import DataError
from medisync.phantom.hospitals import Planted, cases, write_hospitals
from medisync.phantom.scanner import PhantomSlice, draw_patient, draw_slice
from medisync.phantom.styles import STYLES
from medisync.schemas import LABELS

SMALL = 0.01  # four patients of each class
DATASET_3 = "dataset-3/Brain_Cancer raw MRI data/Brain_Cancer"
CLASS_FOLDERS = {
    "dataset-1": {"glioma", "meningioma", "pituitary", "notumor"},
    "dataset-2": {"glioma", "meningioma", "pituitary tumor"},
    DATASET_3: {"brain_glioma", "brain_menin", "brain_tumor", "brain_other"},
}


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Planted]:
    dataset = tmp_path_factory.mktemp("workspace") / "dataset"
    return dataset, write_hospitals(dataset, seed=7, scale=SMALL)


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[PhantomSlice]]:
    """Draws four slices of each class from each hospital."""

    def draw_four(index: int, label: str) -> list[PhantomSlice]:
        generators = [np.random.default_rng((index, number)) for number in range(4)]
        return [draw_slice(label, style=style, generator=g) for style in STYLES.values() for g in generators]

    return {label: draw_four(index, label) for index, label in enumerate(LABELS)}


def files_under(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def thumbnail(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BOX), dtype=float)


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def middle_column(mask: np.ndarray) -> float:
    return float(np.nonzero(mask)[1].mean())


def without_edge(region: np.ndarray, pixels: int) -> np.ndarray:
    return ndimage.binary_erosion(region, iterations=pixels)


def test_folder_layouts_match_the_real_hospitals(hospitals: tuple[Path, Planted]) -> None:
    dataset, _ = hospitals
    assert {p.name for p in dataset.iterdir()} == {"dataset-1", "dataset-2", "dataset-3", "PHANTOM.json"}
    for root, folders in CLASS_FOLDERS.items():
        assert {p.name for p in (dataset / root).iterdir() if p.is_dir()} == folders
        assert all(list((dataset / root / folder).glob("*.jpg")) for folder in folders)
    suffixes = {p.suffix for p in dataset.rglob("*") if p.is_file()}
    assert suffixes == {".jpg", ".csv", ".json"}


def test_the_patients_of_dataset_2_are_listed_with_every_slice(hospitals: tuple[Path, Planted]) -> None:
    dataset, _ = hospitals
    with (dataset / "dataset-2/patients.csv").open(newline="") as file:
        header, *rows = list(csv.reader(file))
    assert header == ["path", "patient"]
    assert sorted(path for path, _ in rows) == sorted(
        f"{folder}/{p.name}"
        for folder in CLASS_FOLDERS["dataset-2"]
        for p in (dataset / "dataset-2" / folder).iterdir()
    )
    assert len({patient for _, patient in rows}) == 3 * 4


def test_the_marker_says_synthetic(hospitals: tuple[Path, Planted]) -> None:
    marker = json.loads((hospitals[0] / "PHANTOM.json").read_text())
    assert marker == {"synthetic": True, "seed": 7, "generator": "medisync.phantom"}


def test_the_seed_alone_determines_every_byte(hospitals: tuple[Path, Planted], tmp_path: Path) -> None:
    dataset, planted = hospitals
    assert write_hospitals(tmp_path, seed=7, scale=SMALL) == planted
    assert files_under(tmp_path) == files_under(dataset)


def test_another_seed_draws_other_patients() -> None:
    first, second = (cases(seed, SMALL)[0].draw()[0].image for seed in (7, 8))
    assert first.shape != second.shape or (first != second).mean() > 0.5


def test_a_case_draws_what_was_filed_under_its_paths(hospitals: tuple[Path, Planted]) -> None:
    for case in (cases(7, SMALL)[0], cases(7, SMALL)[-1]):
        for path, drawn in zip(case.paths, case.draw(), strict=True):
            with Image.open(hospitals[0] / path) as filed:
                assert correlation(np.asarray(filed.convert("L")), drawn.image) > 0.98  # JPEG loses a little


def test_every_patient_has_its_own_randomness() -> None:
    keys = [case.key for case in cases(7, SMALL)]
    assert len(set(keys)) == len(keys)
    assert {key[0] for key in keys} == {7}
    assert min(key[2] for key in keys) == 1  # NumPy reads (7, 0, 0) as (7, 0), which is the hospital's


def test_scale_multiplies_the_patients_and_keeps_four_of_each_class() -> None:
    gliomas = [sum(case.paths[0].startswith("dataset-1/glioma/") for case in cases(0, scale)) for scale in (1, 0.2, 0)]
    assert gliomas == [85, 17, 4]
    assert 900 < sum(len(case.paths) for case in cases(0, 1.0)) < 1100


@pytest.mark.parametrize("label", LABELS)
def test_images_are_grey_bytes_with_masks_of_their_size(label: str, drawn: dict[str, list[PhantomSlice]]) -> None:
    for each in drawn[label]:
        assert each.image.dtype == np.uint8
        assert each.image.shape == each.mask.shape == each.brain.shape == each.head.shape
        assert each.label == label


@pytest.mark.parametrize("label", LABELS)
def test_exactly_the_tumours_have_a_mask_and_it_lies_in_the_head(
    label: str, drawn: dict[str, list[PhantomSlice]]
) -> None:
    for each in drawn[label]:
        fraction = each.mask.sum() / each.head.sum()
        assert fraction == 0 if label == "notumor" else 0.004 < fraction < 0.12
        assert not (each.mask & ~each.head).any()
        assert not (each.mask & ~each.lesion).any()
        assert not (each.brain & ~each.head).any()


def test_gliomas_lie_inside_the_brain(drawn: dict[str, list[PhantomSlice]]) -> None:
    for each in drawn["glioma"]:
        assert not (each.mask & ~without_edge(each.brain, 2)).any()
        assert (
            each.mask & ~without_edge(each.brain, 6)
        ).sum() < 0.1 * each.mask.sum()  # it grew there, it is not cut off


def test_meningiomas_touch_the_edge_of_the_brain(drawn: dict[str, list[PhantomSlice]]) -> None:
    for each in drawn["meningioma"]:
        assert (each.mask & each.brain & ~without_edge(each.brain, 2)).sum() > 10
        assert not (each.mask & ~each.brain).any()


def test_pituitary_tumours_lie_small_near_the_midline(drawn: dict[str, list[PhantomSlice]]) -> None:
    for each in drawn["pituitary"]:
        width = np.ptp(np.nonzero(each.head)[1])
        assert abs(middle_column(each.mask) - middle_column(each.head)) < 0.08 * width
        assert each.mask.sum() < 0.04 * each.head.sum()


def test_a_glioma_has_a_bright_rim_and_a_dark_core_after_contrast(drawn: dict[str, list[PhantomSlice]]) -> None:
    for each in drawn["glioma"][:4]:  # dataset-1 has contrast agent in every scan
        core = ndimage.distance_transform_edt(each.mask) > 0.7 * ndimage.distance_transform_edt(each.mask).max()
        rim = each.mask & ~without_edge(each.mask, 3)
        assert np.median(each.image[rim]) > 1.5 * np.median(each.image[core])


@pytest.mark.parametrize("label", ["meningioma", "pituitary"])
def test_solid_tumours_are_brighter_than_the_brain_after_contrast(
    label: str, drawn: dict[str, list[PhantomSlice]]
) -> None:
    for each in drawn[label][:4]:
        assert np.median(each.image[each.mask]) > 1.3 * np.median(each.image[each.brain & ~each.mask])


@pytest.mark.parametrize("index", range(3))
def test_brightness_does_not_reveal_the_class(index: int, drawn: dict[str, list[PhantomSlice]]) -> None:
    hospital = slice(4 * index, 4 * index + 4)
    means = [np.mean([each.image[each.head].mean() for each in drawn[label][hospital]]) for label in LABELS]
    assert max(means) / min(means) < 1.2  # four images, each 10 % brighter or darker by chance


def test_hospitals_differ_in_noise() -> None:
    def background(dataset_id: str) -> float:
        one = draw_slice("notumor", style=STYLES[dataset_id], generator=np.random.default_rng(0))
        return float(one.image[~ndimage.binary_dilation(one.head, iterations=6)].std())

    assert background("dataset-2") < background("dataset-1") < background("dataset-3")


def test_neighbouring_slices_are_alike_but_not_the_same() -> None:
    below, middle, above = draw_patient(
        "glioma", style=STYLES["dataset-2"], generator=np.random.default_rng(0), slices=3
    )
    assert correlation(below.image, middle.image) > 0.9
    assert (below.image != middle.image).mean() > 0.5
    assert middle.mask.sum() > max(below.mask.sum(), above.mask.sum())  # a tumour is widest in the middle


def test_planted_neighbours_are_the_patients_with_several_slices(hospitals: tuple[Path, Planted]) -> None:
    _, planted = hospitals
    assert planted.neighbours == tuple(case.paths for case in cases(7, SMALL) if len(case.paths) > 1)
    assert {len(paths) for paths in planted.neighbours if paths[0].startswith("dataset-2")} <= {2, 3, 4, 5}


def test_planted_copies_are_copies_mirrored_as_recorded(hospitals: tuple[Path, Planted]) -> None:
    dataset, planted = hospitals
    assert {copy.mirrored for copy in planted.copies} == {True, False}
    for copy in planted.copies:
        there, here = thumbnail(dataset / copy.source), thumbnail(dataset / copy.path)
        turned, other = (there[:, ::-1], there) if copy.mirrored else (there, there[:, ::-1])
        assert correlation(here, turned) > 0.995 > correlation(here, other)
        assert (dataset / copy.path).read_bytes() != (dataset / copy.source).read_bytes()


def test_planted_copies_keep_their_label_and_cross_from_dataset_2_to_1(hospitals: tuple[Path, Planted]) -> None:
    for copy in hospitals[1].copies:
        (there, source_class, _), (here, copy_class, _) = copy.source.split("/"), copy.path.split("/")
        assert (there, here) == ("dataset-2", "dataset-1")
        assert source_class.removesuffix(" tumor") == copy_class


def test_a_planted_conflict_is_one_image_in_two_classes(hospitals: tuple[Path, Planted]) -> None:
    dataset, planted = hospitals
    ((first, second),) = planted.conflicts
    assert (dataset / first).read_bytes() == (dataset / second).read_bytes()
    assert Path(first).parent != Path(second).parent


def test_the_truncated_file_opens_but_does_not_load(hospitals: tuple[Path, Planted]) -> None:
    dataset, planted = hospitals
    with Image.open(dataset / planted.truncated) as image, pytest.raises(OSError, match="truncated"):
        image.load()


def test_the_planted_file_that_is_not_an_image_cannot_be_opened(hospitals: tuple[Path, Planted]) -> None:
    dataset, planted = hospitals
    with pytest.raises(UnidentifiedImageError):
        Image.open(dataset / planted.not_image)


def test_every_other_jpeg_loads(hospitals: tuple[Path, Planted]) -> None:
    dataset, planted = hospitals
    filed = {p.relative_to(dataset).as_posix() for p in dataset.rglob("*.jpg")}
    for path in filed - {planted.truncated, planted.not_image}:
        with Image.open(dataset / path) as image:
            image.load()


def test_the_unmapped_folder_is_listed(hospitals: tuple[Path, Planted]) -> None:
    dataset, planted = hospitals
    found = {p.relative_to(dataset).as_posix() for p in (dataset / DATASET_3 / "brain_other").iterdir()}
    assert set(planted.unmapped) == found


@pytest.mark.parametrize("name", ["dataset-1/glioma/scan.jpg", "dataset-3/note.txt", "PHANTOM.json"])
def test_existing_files_are_refused_and_left_unchanged(name: str, tmp_path: Path) -> None:
    existing = tmp_path / name
    existing.parent.mkdir(parents=True, exist_ok=True)
    existing.write_text("precious")
    with pytest.raises(DataError, match=str(tmp_path / name.split("/")[0])):
        write_hospitals(tmp_path, seed=0, scale=SMALL)
    assert files_under(tmp_path) == {name: b"precious"}


@pytest.mark.usefixtures("no_drawing")
def test_empty_layout_folders_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "dataset-1").mkdir()
    write_hospitals(tmp_path, seed=0, scale=SMALL)
    assert (tmp_path / "dataset-1" / "glioma").is_dir()


@pytest.mark.usefixtures("no_drawing")
def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("medisync.phantom.hospitals._plant", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_hospitals(tmp_path, seed=0, scale=SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces heads by black squares where only the files matter."""
    black = np.zeros((64, 64), dtype=np.uint8)
    empty = black.astype(bool)
    regions = (empty,) * 4
    monkeypatch.setattr(
        "medisync.phantom.hospitals.draw_patient",
        lambda label, slices, **_: (PhantomSlice(black, *regions, label),) * slices,
    )
