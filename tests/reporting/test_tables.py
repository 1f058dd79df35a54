"""Tables of a run: cells are text that is ready to read, the index names the rows."""

import factories
import pandas as pd
import pytest
from pandas.api.types import is_string_dtype

from medisync.reporting import outside, tables
from medisync.schemas import AuditedImage

SPACE = "\N{NO-BREAK SPACE}"


@pytest.fixture
def everything() -> dict[str, pd.DataFrame]:
    audit, meta = factories.audit(), factories.meta("run-001", True, 1)
    test, hospitals = meta.metrics.test, meta.metrics.hospitals
    return {
        "folders": tables.folders(audit),
        "audit": tables.audit_summary(audit),
        "overlaps": tables.overlaps(audit),
        "copies": tables.copies(audit),
        "left out": tables.left_out(audit),
        "splits": tables.splits(factories.split_record({"AIIMS Delhi": {"glioma": "one/a.png"}})),
        "rounds": tables.rounds(factories.history(), 5),
        "participation": tables.participation(factories.history()),
        "hospitals": tables.hospitals(meta),
        "metrics": tables.metrics(test, hospitals),
        "per class": tables.per_class(test),
        "uncertainty": tables.uncertainty(test),
        "models": tables.model_accuracies(factories.baselines()),
        "claims": outside.claim_table(factories.external()["other clinic"]),
        "inside and outside": outside.figures(test, factories.external()["other clinic"]),
        "external audit": outside.audited(audit),
        "excluded": outside.excluded(audit),
        "external folders": outside.scans(factories.external()["other clinic"]),
        "differences": tables.differences(factories.baselines()),
    }


def test_all_cells_are_text_and_all_rows_have_names(everything: dict[str, pd.DataFrame]) -> None:
    for name, found in everything.items():
        assert not found.empty, name
        assert all(is_string_dtype(found[column]) for column in found), name
        assert all(found.index.names), name


def test_an_empty_audit_still_has_its_columns() -> None:
    empty = factories.audit().model_copy(update={"images": [], "examples": []})
    assert tables.left_out(empty).columns.tolist() == ["File", "Status", "Reason"]
    assert tables.copies(empty).empty


def test_files_that_need_attention_come_before_unresolved_folders() -> None:
    status = ("unresolved", "ok", "quarantined", "unreadable")
    images = [AuditedImage(hospital="A", path=each, label=None, group=None, status=each) for each in status]
    found = tables.left_out(factories.audit().model_copy(update={"images": images}))
    assert found["File"].tolist() == ["unreadable", "quarantined", "unresolved"]


def test_overlaps_have_the_sharing_hospital_in_the_row() -> None:
    found = tables.overlaps(factories.audit())
    assert found.loc["AIIMS Delhi"].tolist() == ["–", "210", "0"]
    assert found.loc["NIMHANS Bengaluru"].tolist() == ["190", "–", "0"]


def test_rounds_are_those_validated_or_with_a_refusal() -> None:
    entries = factories.history()
    silent = {"val_loss": None, "val_accuracy": None}
    entries[0] = entries[0].model_copy(update=silent)
    entries[2] = entries[2].model_copy(update=silent)
    found = tables.rounds(entries, 5)
    assert found.index.tolist() == ["2", "3", "4", "5 (selected)", "6"]
    assert found.loc["3", "Validation loss"] == "–"
    assert found.loc["3", ["At Tata Memorial Mumbai", "Refused or absent"]].tolist() == ["–", "Tata Memorial Mumbai"]


def test_a_metric_stands_with_its_interval_and_an_undefined_one_is_a_dash() -> None:
    meta = factories.meta("run-001", True, 1)
    found = tables.metrics(meta.metrics.test, meta.metrics.hospitals)
    assert found.index[0] == "All hospitals"
    assert (
        found.loc["All hospitals", "Accuracy"] == f"89.6{SPACE}% (86.6{SPACE}to{SPACE}92.1)"
    )  # (113 + 85 + 91 + 74) / 405
    per_class = tables.per_class_short(meta.metrics.hospitals["NIMHANS Bengaluru"])
    assert per_class.loc["Glioma", "Sensitivity"] == f"88.9{SPACE}%"  # 40 / 45
    assert per_class.loc["No tumour", ["Scans", "Sensitivity", "Precision"]].tolist() == ["0", "–", "–"]


def test_models_are_named_and_tested_at_every_hospital() -> None:
    found = tables.model_accuracies(factories.baselines())
    assert found.index.tolist() == ["Federated", "AIIMS Delhi alone", "Pooled"]
    assert found.columns.tolist() == ["All hospitals", *factories.HOSPITALS]


def test_splits_are_counted_by_hospital_and_class() -> None:
    found = tables.splits(factories.split_record({"A": {"glioma": "a.png", "notumor": "b.png"}}))
    assert found.loc[("A", "Test")].tolist() == ["1", "0", "0", "1", "2"]
    assert found.loc[("A", "Training"), "Total"] == "0"


def test_invisible_characters_in_a_name_are_dropped() -> None:
    audit = factories.audit()
    hospitals = {"A\u202eB": audit.hospitals["AIIMS Delhi"]}
    assert tables.folders(audit.model_copy(update={"hospitals": hospitals})).index[0] == "AB"


def test_figures_with_and_without_knowing_the_hospital_stand_side_by_side() -> None:
    found = factories.meta(thresholds=(0.6, 0.8)).metrics
    table = tables.uncertainty(found.test, found.test_elsewhere)
    assert table.columns.tolist() == ["Hospital known", "Hospital not known"]
    assert [cell.replace("\N{NO-BREAK SPACE}", " ") for cell in table["Hospital known"]][-5:] == [
        "80.0 %", "4.0 %", "90.0 %", "7.0 %", "10.0 %"
    ]  # fmt: skip
    assert tables.uncertainty(found.test).columns.tolist() == ["Value"]
    rows = tables.metrics(found.test, found.hospitals, found.test_elsewhere).index.tolist()
    assert rows[:3] == ["All hospitals", "All hospitals, hospital not known", "AIIMS Delhi"]


def test_a_run_before_verdicts_has_no_rows_for_them() -> None:
    assert len(tables.uncertainty(factories.meta().metrics.test)) == 5
