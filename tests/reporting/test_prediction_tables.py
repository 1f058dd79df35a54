"""Tables of predictions: the slice that is shown, and notes that take little room."""

from medisync.reporting import prediction_tables
from medisync.schemas import Prediction

FOUND = Prediction(
    label="glioma",
    confidence=0.9,
    probabilities={"glioma": 0.9, "meningioma": 0.06, "pituitary": 0.03, "notumor": 0.01},
    plausible=["glioma"],
    distance=1.1,
    unlike_training=True,
    checks=[],
    notes=["slice 7 of 20 used"],
)


def test_each_upload_has_the_slice_that_is_shown() -> None:
    uploads = [
        ("head.nii", FOUND, 7, 20),
        ("a.png", FOUND, 1, 1),
        ("dark.nii", "no content", 3, 5),
        ("no", "bad", 1, 0),
    ]
    found = prediction_tables.predictions(uploads)
    assert found["Slice"].tolist() == ["7 of 20", "–", "3 of 5", "–"]
    assert found["Class"].tolist() == ["Glioma", "Glioma", "–", "–"]
    assert found["Note"].tolist() == ["slice 7 of 20 used"] * 2 + ["no content", "bad"]


def test_each_slice_of_a_volume_has_the_probability_of_each_class_or_its_reason() -> None:
    found = prediction_tables.slices({1: "no content", 2: FOUND})
    assert found.loc["1"].tolist() == ["–"] * 5 + ["no content"]
    assert [cell.replace("\N{NO-BREAK SPACE}", " ") for cell in found.loc["2"]] == [
        "90.0 %", "6.0 %", "3.0 %", "1.0 %", "yes", ""
    ]  # fmt: skip


JUDGED = FOUND.model_copy(update={"verdict": "no answer", "reasons": ["out of distribution"]})


def test_tables_of_a_run_with_verdicts_have_a_column_for_them() -> None:
    found = prediction_tables.predictions([("a.png", JUDGED, 1, 1), ("no", "bad", 1, 0)])
    assert found.columns.tolist() == ["Slice", "Verdict", "Class", "Confidence", "Out of distribution", "Note"]
    assert found["Verdict"].tolist() == ["No answer: out of distribution", "–"]
    assert found["Class"].tolist() == ["leaned to glioma", "–"]
    along = prediction_tables.slices({1: "no content", 2: JUDGED})
    assert along["Verdict"].tolist() == ["–", "No answer: out of distribution"]
    own = FOUND.model_copy(update={"verdict": "answer"})
    assert prediction_tables.by_model(JUDGED, {"A": own})["Verdict"].tolist() == [
        "No answer: out of distribution", "Answer"
    ]  # fmt: skip


def test_tables_of_a_run_before_verdicts_have_none() -> None:
    tables = (
        prediction_tables.predictions([("a.png", FOUND, 1, 1)]),
        prediction_tables.slices({1: FOUND}),
        prediction_tables.by_model(FOUND, {"A": FOUND}),
    )
    assert not any("Verdict" in table.columns for table in tables)


def test_local_models_agree_on_what_is_predicted_or_leaned_to() -> None:
    assert prediction_tables.agreement(FOUND, {"A": FOUND}) == "1 of 1 local model predicts the same class"
    assert prediction_tables.agreement(JUDGED, {"A": FOUND, "B": FOUND}) == "2 of 2 local models lean to the same class"


def test_misclassified_scans_without_an_answer_are_counted() -> None:
    wrong = FOUND.model_copy(update={"verdict": "answer"})
    assert prediction_tables.mistakes_summary([], 12) == "No test scan was misclassified."
    assert prediction_tables.mistakes_summary([FOUND], 12) == "1 test scan was misclassified:"
    assert prediction_tables.mistakes_summary([wrong, JUDGED, wrong], 2) == (
        "3 test scans were misclassified, 1 of them without an answer; the 2 with the highest confidence:"
    )
    caption = prediction_tables.mistake_caption("meningioma", JUDGED).replace("\N{NO-BREAK SPACE}", " ")
    assert caption == "**Meningioma**, predicted **glioma**, 90.0 %. No answer: out of distribution"


def test_one_note_is_a_sentence_and_several_are_a_list() -> None:
    def notes(*said: str) -> str:
        return prediction_tables.notes(FOUND.model_copy(update={"notes": list(said)}))

    assert notes() == ""
    assert notes("colour dropped") == "Colour dropped."
    assert notes("colour dropped", "a *window*") == "- Colour dropped.\n- A \\*window\\*."
