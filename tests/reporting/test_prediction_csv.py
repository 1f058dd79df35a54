"""Rows of predictions: read by programs, and harmless in a spreadsheet."""

import csv
import io

import pytest

from medisync.reporting import prediction_csv
from medisync.schemas import ImageCheck, Prediction

FOUND = Prediction(
    label="glioma",
    confidence=0.93125,
    probabilities={"glioma": 0.93125, "meningioma": 0.06, "pituitary": 0.00875, "notumor": 0},
    plausible=["glioma"],
    distance=1.1,
    unlike_training=True,
    checks=[
        ImageCheck(name="size", passed=False, detail="90 x 90 pixels"),
        ImageCheck(name="aspect", passed=True, detail="1.00 : 1"),
    ],
    notes=["slice 7 of 20 used", "window\N{NO-BREAK SPACE}of\N{THIN SPACE}the file"],
    slices=20,
    slice_number=7,
)


def written(*rows: list[str]) -> list[dict[str, str]]:
    stream = io.StringIO()
    prediction_csv.write(stream, rows)
    return list(csv.DictReader(io.StringIO(stream.getvalue()), strict=True))


def test_a_row_has_numbers_for_programs_and_plain_spaces() -> None:
    (row,) = written(prediction_csv.row("head.nii", FOUND))
    assert row == {
        "path": "head.nii",
        "label": "glioma",
        "glioma": "0.9313",
        "meningioma": "0.0600",
        "pituitary": "0.0088",
        "notumor": "0.0000",
        "out_of_distribution": "yes",
        "slice": "7",
        "slices": "20",
        "note": "out of distribution; size: 90 x 90 pixels; slice 7 of 20 used; window of the file",
        "verdict": "",  # of a run before there were verdicts
        "reasons": "",
    }


def test_verdict_and_reasons_come_last_so_that_older_columns_keep_their_places() -> None:
    judged = FOUND.model_copy(update={"verdict": "no answer", "reasons": ["out of distribution", "low confidence"]})
    line = prediction_csv.row("head.nii", judged)
    assert line[:-2] == prediction_csv.row("head.nii", FOUND)[:-2]
    assert dict(zip(prediction_csv.HEADER[-2:], line[-2:], strict=True)) == {
        "verdict": "no answer",
        "reasons": "out of distribution; low confidence",
    }
    assert len(prediction_csv.row("bad.png", "damaged")) == len(prediction_csv.HEADER)


def test_a_scan_without_prediction_has_its_reason_and_empty_numbers() -> None:
    bad, blank = written(
        prediction_csv.row("bad.png", "the file is empty"), prediction_csv.row("a.nii", "no content", 2, 5)
    )
    assert {key: cell for key, cell in bad.items() if cell} == {"path": "bad.png", "note": "the file is empty"}
    assert (blank["slice"], blank["slices"], blank["label"], blank["note"]) == ("2", "5", "", "no content")


@pytest.mark.parametrize(
    "name",
    [
        "=1+1.png",
        "+1.png",
        "-1.png",
        "@SUM(A1)",
        "  =1.png",
        '"=1.png',
        "'=1.png",
        '" =1.png',
        "\u3000=1",
        "＝1+1",
        "\xa0=1",
    ],
)
def test_a_cell_that_a_spreadsheet_would_compute_is_defused(name: str) -> None:
    named, noted = written(prediction_csv.row(name, FOUND), prediction_csv.row("a.png", name))
    for cell in (named["path"], noted["note"]):
        assert cell.startswith(("'", "\\"))  # a backslash begins the escape of an invisible character
    assert float(named["glioma"]) == 0.9313


@pytest.mark.parametrize("name", ["\t=1", "\r=1", "\n=1", "a\r\n=1,2.png", "\u202e=1", "\ufeff=1", "\x00=1"])
def test_invisible_characters_are_escaped_so_that_no_cell_or_line_begins_with_a_formula(name: str) -> None:
    stream = io.StringIO()
    prediction_csv.write(stream, [prediction_csv.row(name, FOUND)])
    header, line = stream.getvalue().splitlines()
    assert header == ",".join(prediction_csv.HEADER)
    assert line.isprintable()
    assert line.lstrip('"').startswith(("\\", "a\\r\\n=1"))


@pytest.mark.parametrize("name", ["scan-1.png", "a=b.png", "a.zip: in/-1.png", "x,y.png", 'say "x".png'])
def test_other_names_are_unchanged(name: str) -> None:
    (row,) = written(prediction_csv.row(name, FOUND))
    assert row["path"] == name
