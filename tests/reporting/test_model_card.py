"""The model card says what the records say."""

from pathlib import Path

import factories
import pytest

from medisync import notebook
from medisync.reporting import model_card
from medisync.reporting.formatting import number, percent
from medisync.schemas import BaselineModel, BaselineRecord, ExternalEvaluation, MembershipRecord, ModelMeta
from medisync.workspace import artifacts


@pytest.fixture
def meta(tmp_path: Path) -> ModelMeta:
    run = factories.make_run(artifacts.locate(tmp_path))
    record: ModelMeta = artifacts.read(run, artifacts.META)
    return record


def card(
    meta: ModelMeta,
    compared: BaselineRecord | None = None,
    external: dict[str, ExternalEvaluation] | None = None,
    attacked: MembershipRecord | None = None,
    **parameters: object,
) -> str:
    configuration = notebook.configuration(parameters)
    return model_card.write(meta, configuration, {"torch": "1.2.3"}, compared, external=external, attacked=attacked)


def test_figures_are_those_of_the_records(meta: ModelMeta) -> None:
    text = card(meta)
    assert meta.metrics.test.accuracy is not None
    assert percent(meta.metrics.test.accuracy) in text
    for name, scores in meta.metrics.hospitals.items():
        (row,) = (line for line in text.splitlines() if line.startswith(f"| {name} | {scores.n} |"))
        assert percent(scores.accuracy) in row
    assert "torch 1.2.3" in text
    assert meta.model_sha256 in text
    assert "CC BY 4.0" in text


def test_it_says_how_images_are_augmented(meta: ModelMeta) -> None:
    changed = card(meta, IMAGE_SIZE_SCHEDULE="progressive", AUGMENT=True, MIXUP=0.5, WEIGHT_DECAY=0.125)
    steps = (
        "small images first; mirrored, shifted, rotated, scaled, re-windowed",
        "mixup of pairs with weights from Beta(0.5, 0.5)",
    )
    assert "; ".join(steps) in changed
    assert "AdamW, " in changed
    assert "weight decay 0.125" in changed
    plain = card(meta, IMAGE_SIZE_SCHEDULE="constant", AUGMENT=False, MIXUP=0, WEIGHT_DECAY=0)
    assert "Adam, " in plain
    assert "constant image size; no geometric changes; no mixup" in plain


def test_it_claims_no_split_by_patient_where_patients_are_not_known(meta: ModelMeta) -> None:
    known = {
        "AIIMS Delhi": 0,
        "NIMHANS Bengaluru": 1,
        "Tata Memorial Mumbai": sum(meta.datasets["Tata Memorial Mumbai"].found.values()),
    }
    datasets = {name: stats.model_copy(update={"with_patient": known[name]}) for name, stats in meta.datasets.items()}
    text = card(meta.model_copy(update={"datasets": datasets}))
    total = number(sum(meta.datasets["NIMHANS Bengaluru"].found.values()))
    assert f"The patient list covers 1 of {total} images of NIMHANS Bengaluru: " in text
    assert "No patient is known at AIIMS Delhi: slices of one patient may be on both sides of a split." in text
    assert "The patient of every image of Tata Memorial Mumbai is known: a patient is on one side of a split." in text
    assert "slices of one patient are on the same side" not in card(meta)


def test_it_says_what_was_left_out_of_each_hospital(meta: ModelMeta) -> None:
    stats = meta.datasets["AIIMS Delhi"].model_copy(update={"left_out": {"unresolved": 1200, "quarantined": 3}})
    text = card(meta.model_copy(update={"datasets": {**meta.datasets, "AIIMS Delhi": stats}}))
    line = "- AIIMS Delhi: 1,200 in folders that are in no class map, 3 quarantined, because a slice occurs under two labels"
    assert line in text
    assert "Left out, file by file" not in card(meta)


def test_it_says_who_holds_slices_of_several_hospitals(meta: ModelMeta) -> None:
    assert "was assigned to one of them" in card(meta)
    assert "was assigned to one of them" not in card(meta, CROSS_HOSPITAL_DUPLICATES="keep")


@pytest.mark.parametrize(("external", "number"), [({}, 6), (factories.external(), 9)], ids=["inside", "outside"])
def test_every_table_is_rectangular(meta: ModelMeta, external: dict[str, ExternalEvaluation], number: int) -> None:
    tables = [block for block in card(meta, external=external).split("\n\n") if block.startswith("|")]
    assert len(tables) == number
    for table in tables:
        assert len({line.count(" |") for line in table.splitlines()[2:]}) == 1


def test_it_says_how_well_training_scans_are_told_from_others_first_of_all_if_too_well(meta: ModelMeta) -> None:
    within, beyond = (card(meta, attacked=factories.membership(worst=worst, overall=0.54)) for worst in (0.58, 0.7))
    for text in (within, beyond):
        section = text.split("## Membership inference")[1].split("## ")[0]
        assert "0.5 is chance" in section
        assert "| NIMHANS Bengaluru | Loss | 700 / 150 |" in section
    assert "**Membership.**" in beyond.split("## Intended use")[0]
    assert "**Membership.**" not in within
    assert "This run was not attacked" in card(meta)


def test_a_synthetic_run_is_named_as_such_and_no_output_is_a_diagnosis(meta: ModelMeta) -> None:
    assert "**Synthetic.**" in card(meta)
    assert "**Synthetic.**" not in card(meta.model_copy(update={"synthetic": False}))
    assert "its output is not a diagnosis" in card(meta)


def test_a_note_on_the_data_and_the_comparison_are_in_it(meta: ModelMeta) -> None:
    federated = BaselineModel(
        kind="federated", trained_at=["A", "B"], best_round=1, test=meta.metrics.test, hospitals=meta.metrics.hospitals
    )
    text = card(meta, BaselineRecord(models=[federated], differences=[]), DATA_NOTE="Tata is a stand-in.")
    assert "Tata is a stand-in." in text
    assert "| Federated |" in text
    assert "## Comparison" not in card(meta)


def test_it_says_what_is_answered_with_and_without_knowing_the_hospital() -> None:
    judged = factories.meta(thresholds=(0.62, 0.84))
    text = card(judged, external=factories.external(judged=True)).replace("\N{NO-BREAK SPACE}", " ")
    assert "| Measure | Split | Hospital known | Hospital not known |" in text
    assert "| Confidence from which an answer is without doubt | validation | 84 % | 84 % |" in text
    assert "| Confidence below which there is no answer | validation | 62 % | 62 % |" in text
    assert "| Scans without an answer | test | 10.0 % | 10.0 % |" in text
    assert "Of the hospitals' own test scans, 80.0 % get an answer without doubt (4.0 % of these are wrong)" in text
    assert "Of the same scans, predicted as if their hospital were not known, 80.0 % get an answer" in text
    assert "- Prior of Tata Memorial Mumbai, which has no training scans without a tumour: " in text
    (accuracy,) = (line for line in text.splitlines() if line.startswith("| All hospitals, hospital not known |"))
    assert "| 83.7 % " in accuracy  # (363 - 74 + 50) / 405
    healthy = [line.split(" | ")[2][:6] for line in text.splitlines() if line.startswith("| No tumour | 75 |")]
    assert healthy == ["98.7 %", "66.7 %"]  # 74 and 50 of 75
    assert "predicted as if their hospital were not known, like the scans from outside." in text
    assert "| Scans without an answer | 10.0 % | 50.0 % | 90.0 % |" in text


def test_a_card_of_a_run_without_verdicts_has_no_row_for_them(meta: ModelMeta) -> None:
    text = card(meta, external=factories.external())
    assert "| Measure | Split | Value |" in text
    for words in ("doubt", "without an answer", "not known |", "Prior of"):
        assert words not in text


def test_it_says_what_holds_outside_the_hospitals(meta: ModelMeta) -> None:
    text = card(meta, external=factories.external())
    assert "0 of 7 aims of this project outside the hospitals are reached:" in text
    assert "| Accuracy | at least 75.0\N{NO-BREAK SPACE}% | 45.0\N{NO-BREAK SPACE}% | no |" in text
    assert "70 scans evaluated; excluded: 3 copies of hospitals' scans, 1 unreadable" in text
    assert "Comparison, by hospital; Outside its hospitals" in text
    assert "no external test set" not in text


def test_it_says_that_there_is_no_external_test_set_only_where_there_is_none(meta: ModelMeta) -> None:
    text = card(meta)
    assert "## Outside its hospitals\n\nThis run has no external test set" in text
    assert "Comparison, by hospital; no external test set" in text


def test_an_external_dataset_without_a_scan_to_evaluate_is_one_sentence(meta: ModelMeta) -> None:
    (found,) = factories.external().values()
    figures = dict.fromkeys(type(found).model_fields.keys() - {"source", "licence", "folders", "excluded"})
    text = card(meta, external={"empty": found.model_copy(update={**figures, "folders": []})})
    section = text.split("## Outside its hospitals\n\n")[1].split("\n\n##")[0]
    assert section.startswith("**empty** (A collection; CC0): 0 scans evaluated; excluded: ")
    assert "|" not in section


def test_the_lowest_accuracy_of_a_hospital_is_named(meta: ModelMeta) -> None:
    # (21 + 16 + 2) / 51
    assert "Lowest accuracy of a hospital: 76.5\N{NO-BREAK SPACE}% at Tata Memorial Mumbai." in card(meta)
