"""The table of labels: every line says one thing or is set aside, and what it names with it."""

from pathlib import Path

import pytest
from exports import uid

from medisync.errors import DataError
from medisync.ingest import labels
from medisync.ingest.labels import Assignment, SeriesFound, Slices

FOUND = [
    SeriesFound((uid(1), uid(1, 1)), "A1", "patient-1", True),
    SeriesFound((uid(1), uid(1, 2)), "A1", "patient-1", True),
    SeriesFound((uid(1), uid(1, 3)), "A1", "patient-1", False),
    SeriesFound((uid(2), uid(2, 1)), "A2", "patient-2", True),
    SeriesFound((uid(3), uid(3, 1)), "A1", "patient-1", True),
    SeriesFound((uid(4), uid(4, 1)), "A4", "patient-4", False),
    SeriesFound((uid(5), uid(5, 1)), "A5", "patient-5", True),
    SeriesFound((uid(5), uid(5, 2)), "A5", "patient-6", True),
]
"""Two usable series and one of no sequence; a study each for others; one without a usable series; one of two patients."""


def assign(folder: Path, text: str) -> Assignment:
    (folder / "labels.csv").write_text(text)
    return labels.assign(labels.read(folder / "labels.csv"), FOUND)


def labelled(found: Assignment) -> dict[str, str]:
    return {series: label.label for (_, series), label in found.labels.items()}


def problems(found: Assignment) -> dict[int, str]:
    return {problem.line: problem.reason for problem in found.problems}


@pytest.mark.parametrize(
    ("line", "series"),
    [
        (f"study,label\n{uid(2)},glioma", [uid(2, 1)]),
        (f"series,label\n{uid(1, 2)},glioma", [uid(1, 2)]),
        ("accession,label\nA1,glioma", [uid(1, 1), uid(1, 2), uid(1, 3), uid(3, 1)]),
        (f"accession,study,label\nA1,{uid(3)},glioma", [uid(3, 1)]),
        (f"Label;Study;Comment\nGLIOMA; {uid(2)} ;anything", [uid(2, 1)]),
        (f"sep=;\nlabel;study\nglioma;{uid(2)}", [uid(2, 1)]),
    ],
)
def test_a_line_names_a_study_a_series_or_an_accession_number(tmp_path: Path, line: str, series: list[str]) -> None:
    found = assign(tmp_path, line)
    assert labelled(found) == dict.fromkeys(series, "glioma")
    assert not found.problems


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (f"{uid(9)},,,glioma,,,", "nothing that is in the folder"),
        (f"{uid(1)},,A2,glioma,,,", "nothing that is in the folder"),
        (",,,glioma,,,", "no study, series or accession"),
        (f"{uid(1)},,,tumour,,,", "its label is none of glioma, meningioma, pituitary, notumor, other"),
        (f"{uid(1)},,,,,,", "its label is none of"),
        (f"{uid(1)},,,glioma", "fewer or more cells"),
        (f"{uid(4)},,,glioma,,,", "no series of a sequence in the rules"),
        (f"{uid(5)},,,glioma,,,", "several patients"),
        (f"{uid(1)},,,glioma,,3,5", "names 2 usable series"),
        (f"{uid(2)},,,glioma,,3,", "not two whole numbers"),
        (f"{uid(2)},,,glioma,,x,5", "not two whole numbers"),
        (f"{uid(2)},,,glioma,,5,3", "first slice comes after its last"),
        (f"{uid(2)},,,notumor,,3,5", "the label notumor"),
    ],
)
def test_a_line_that_cannot_be_used_is_set_aside(tmp_path: Path, line: str, reason: str) -> None:
    found = assign(tmp_path, f"study,series,accession,label,patient,first,last\n{line}\n")
    assert labelled(found) == {}
    assert reason in problems(found)[2]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (f"study,label\n{uid(1)},glioma\n{uid(2)},glioma\n{uid(1)},meningioma", {2, 4}),
        (f"series,label\n{uid(1, 1)},glioma\n{uid(1, 2)},meningioma\n{uid(2, 1)},glioma", {2, 3}),
        (f"study,label,patient\n{uid(1)},glioma,P1\n{uid(2)},glioma,P2\n{uid(1)},glioma,P3", {2, 4}),
        (f"study,label\n{uid(1)},glioma\n{uid(2)},glioma\n{uid(1)},unsure", {2, 4}),
        (f"series,label\n{uid(5, 1)},glioma\n{uid(2, 1)},glioma", {2}),
    ],
    ids=["two labels", "two labels by series", "two patients", "a label that is none", "study of two patients"],
)
def test_a_study_about_which_lines_disagree_is_quarantined_whole(tmp_path: Path, text: str, lines: set[int]) -> None:
    found = assign(tmp_path, text)
    assert labelled(found) == {uid(2, 1): "glioma"}
    assert problems(found).keys() == lines
    assert {study for study, _ in found.quarantined} <= {uid(1), uid(5)}


def test_no_problem_quotes_a_cell(tmp_path: Path) -> None:
    found = assign(tmp_path, "study,label,patient,first,last\nDOE^JOHN,SECRET,MRN4711,1947,x\nDOE^JANE,glioma,,,\n")
    assert len(found.problems) == 2
    assert not any(word in str(found) for word in ("DOE", "SECRET", "MRN", "1947"))


def test_patient_and_slices_come_with_the_label(tmp_path: Path) -> None:
    """A study is of one patient, so that a patient given once holds for all its series."""
    text = f"study,series,label,patient,first,last\n{uid(1)},,glioma,P1,,\n{uid(1)},{uid(1, 2)},glioma,,3,5\n"
    found = assign(tmp_path, text)
    assert {series: (label.patient, label.slices) for (_, series), label in found.labels.items()} == {
        uid(1, 1): ("P1", ()),
        uid(1, 2): ("P1", (Slices(3, 5),)),
        uid(1, 3): ("P1", ()),
    }


def test_other_is_a_label(tmp_path: Path) -> None:
    assert labelled(assign(tmp_path, f"study,label\n{uid(2)},other")) == {uid(2, 1): "other"}


@pytest.mark.parametrize("text", ["", "study,diagnosis\n1,2\n", "1.2.3,DOE^JOHN\n"])
def test_a_table_without_the_columns_is_refused_without_quoting_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match="expected the columns label and study, series or accession") as refused:
        assign(tmp_path, text)
    assert "DOE" not in str(refused.value)
