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


def test_one_note_is_a_sentence_and_several_are_a_list() -> None:
    def notes(*said: str) -> str:
        return prediction_tables.notes(FOUND.model_copy(update={"notes": list(said)}))

    assert notes() == ""
    assert notes("colour dropped") == "Colour dropped."
    assert notes("colour dropped", "a *window*") == "- Colour dropped.\n- A \\*window\\*."
