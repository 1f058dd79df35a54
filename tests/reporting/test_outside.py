"""What holds outside the hospitals: claims, and figures beside those of the hospitals' test scans."""

import factories
import pytest

from medisync.reporting import outside, sentences
from medisync.schemas import BaselineModel, ExternalEvaluation

SPACE = "\N{NO-BREAK SPACE}"


@pytest.fixture
def found() -> ExternalEvaluation:
    return factories.external()["other clinic"]


def changed(found: ExternalEvaluation, **figures: object) -> ExternalEvaluation:
    return found.model_copy(update=figures)


def test_every_claim_that_can_be_judged_has_its_limit_and_what_was_found(found: ExternalEvaluation) -> None:
    table = outside.claim_table(found)
    assert table["Wanted"].tolist() == [
        f"at least 75.0{SPACE}%",
        "at least 0.850",
        "at least 0.850",
        f"at most 12.0{SPACE}%",
        f"at most 2.0{SPACE}%",
        f"at most 5.0{SPACE}%",
        "at least 0.850",
    ]
    accuracy, with_both, healthy, ece, sure, of_others, ood = table["Found"]
    assert accuracy == f"45.0{SPACE}%"  # (2 + 2 + 14) / 40
    assert (with_both, healthy, ood) == ("0.710", "0.680", "0.690")
    assert (ece, sure, of_others) == (f"38.0{SPACE}%", f"12.5{SPACE}%", f"20.0{SPACE}%")
    assert set(table["Holds"]) == {"no"}


def test_a_claim_holds_at_its_limit_and_not_beyond(found: ExternalEvaluation) -> None:
    def holds(name: str, **figures: object) -> bool:
        return next(each.holds for each in outside.claims(changed(found, **figures)) if each.name == name)

    assert found.known
    assert holds(outside.TUMOUR_AUC, tumour_auc=0.85)
    assert not holds(outside.TUMOUR_AUC, tumour_auc=0.849)
    assert holds("Calibration error (ECE)", known=found.known.model_copy(update={"ece": 0.12}))
    assert not holds("Calibration error (ECE)", known=found.known.model_copy(update={"ece": 0.121}))


def test_nothing_is_claimed_of_what_was_not_measured(found: ExternalEvaluation) -> None:
    others = changed(
        found, known=None, tumour_auc=None, tumour_auc_external_healthy=None, ood_auc_known=None, ood_fpr95_known=None
    )
    assert [each.found for each in outside.claims(others)] == [0.2, 0.69]
    assert outside.claims(changed(others, other_selective=None, ood_auc_other=None)) == []


def test_figures_stand_beside_those_of_the_hospitals(found: ExternalEvaluation) -> None:
    inside = factories.meta().metrics.test
    table = outside.figures(inside, found)
    assert table.loc["Scans"].tolist() == ["405", "40", "30"]
    assert [name for name in table.index if name.startswith("Sensitivity")] == [
        "Sensitivity, glioma",
        "Sensitivity, meningioma",
        "Sensitivity, no tumour",
    ]
    assert table.loc["Sensitivity, no tumour"].tolist() == [f"98.7{SPACE}%", f"38.9{SPACE}%", "–"]  # 74 / 75, 14 / 36
    assert table.loc[outside.TUMOUR_AUC].tolist() == ["0.910", "0.710", "–"]
    assert table.loc[outside.CONFIDENTLY_WRONG].tolist() == [f"1.0{SPACE}%", f"12.5{SPACE}%", f"20.0{SPACE}%"]
    assert table.loc["Wrong among those not flagged"].tolist() == [
        f"10.4{SPACE}%",  # 1 - 363 / 405
        f"50.0{SPACE}%",
        f"100.0{SPACE}%",
    ]
    assert f"20.0{SPACE}% (18.0{SPACE}to{SPACE}22.0)" in table.loc["Flagged as out of distribution"].tolist()
    assert table.loc["OOD score against the hospitals' scans, AUROC"].tolist() == ["–", "0.700", "0.690"]


def test_a_set_without_scans_has_no_column_and_a_figure_without_values_no_row(found: ExternalEvaluation) -> None:
    inside = factories.meta().metrics.test
    known = outside.figures(inside, changed(found, other_selective=None, ood_auc_other=None, ood_fpr95_other=None))
    assert known.columns.tolist() == ["Hospitals' test scans", "Outside, the four classes"]
    assert "The same, tumours from outside, healthy of the hospitals" not in known.index
    assert outside.figures(inside, changed(found, known=None)).columns.tolist()[1:] == ["Outside, none of the classes"]


def test_coverage_and_risk_stand_beside_those_of_the_hospitals() -> None:
    metrics = factories.meta(thresholds=(0.6, 0.8)).metrics
    assert outside.inside(metrics) == metrics.test_elsewhere
    assert outside.inside(factories.meta().metrics) == factories.meta().metrics.test
    table = outside.figures(outside.inside(metrics), factories.external(judged=True)["other clinic"])
    shown = {name: [cell.replace(SPACE, " ") for cell in table.loc[name]] for name in table.index}
    assert shown["Scans with an answer without doubt"] == ["80.0 %", "30.0 %", "0.0 %"]
    assert shown["Wrong among the answers without doubt"] == ["4.0 %", "10.0 %", "–"]
    assert shown["Wrong among all answers"] == ["7.0 %", "20.0 %", "100.0 %"]
    assert shown["Scans without an answer"] == ["10.0 %", "50.0 %", "90.0 %"]


def test_folders_say_what_they_stand_for(found: ExternalEvaluation) -> None:
    table = outside.scans(found)
    assert table["Class"].tolist() == ["No tumour", "Glioma", "Meningioma", "None of the classes"]
    assert table["Scans"].tolist() == ["36", "2", "2", "30"]


def test_a_sentence_says_where_scans_come_from_and_which_are_excluded(found: ExternalEvaluation) -> None:
    said = sentences.external_set("a [b](c)", found)
    assert said.startswith(r"**a \[b\]\(c\)** (A collection; CC0): 70 scans evaluated; excluded: ")
    assert "3 copies of hospitals' scans, 1 unreadable." in said
    bare = sentences.external_set("a", changed(found, source="", licence="", excluded={}))
    assert bare.startswith("**a**: 70 scans evaluated. ")


def test_one_line_says_how_the_model_does_outside_or_that_nobody_knows(found: ExternalEvaluation) -> None:
    assert sentences.outside_in_short({"x": found}) == (
        f"Outside the hospitals, on x: 45.0{SPACE}% of 40 scans are given the right class; 12.5{SPACE}% a wrong one with "
        f"confidence over 90 % and no warning; of 30 scans of none of the classes, 20.0{SPACE}% are given one with such "
        "confidence."
    )
    assert sentences.outside_in_short({}) == sentences.NO_EXTERNAL_SET
    judged = sentences.outside_in_short(factories.external(judged=True))
    assert f"and no warning; 50.0{SPACE}% get no answer; of 30 scans" in judged
    assert f"with such confidence; 90.0{SPACE}% get no answer." in judged


def test_a_hospital_left_out_of_training_is_compared_with_itself() -> None:
    compared, names = factories.baselines(), list(factories.HOSPITALS)
    assert outside.left_out_hospitals(compared).empty
    weaker = {name: factories.metrics([[1, 1, 0, 0], *[[0] * 4] * 3]) for name in names}
    left_out = BaselineModel(
        kind="leave-one-out", trained_at=names[:2], best_round=1, test=compared.models[0].test, hospitals=weaker
    )
    table = outside.left_out_hospitals(compared.model_copy(update={"models": [*compared.models, left_out]}))
    assert table.index.tolist() == ["Tata Memorial Mumbai"]
    with_it, without_it = table.iloc[0]
    assert with_it.startswith(f"76.5{SPACE}%")  # (21 + 16 + 2) / 51
    assert without_it.startswith(f"50.0{SPACE}%")
