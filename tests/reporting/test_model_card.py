"""The model card says what the records say."""

from pathlib import Path

import factories
import pytest

from medisync import notebook
from medisync.reporting import model_card
from medisync.schemas import BaselineModel, BaselineRecord, ModelMeta
from medisync.workspace import artifacts


@pytest.fixture
def meta(tmp_path: Path) -> ModelMeta:
    run = factories.make_run(artifacts.locate(tmp_path))
    record: ModelMeta = artifacts.read(run, artifacts.META)
    return record


def card(meta: ModelMeta, compared: BaselineRecord | None = None, **parameters: object) -> str:
    return model_card.write(meta, notebook.configuration(parameters), {"torch": "1.2.3"}, compared)


def test_figures_are_those_of_the_records(meta: ModelMeta) -> None:
    text = card(meta)
    assert meta.metrics.test.accuracy is not None
    assert f"{meta.metrics.test.accuracy:.3f}" in text
    for name, scores in meta.metrics.hospitals.items():
        (row,) = (line for line in text.splitlines() if line.startswith(f"| {name} | {scores.n} |"))
        assert f"{scores.accuracy:.3f}" in row
    assert "torch 1.2.3" in text
    assert meta.model_sha256 in text
    assert "CC BY 4.0" in text


def test_how_images_are_changed_in_training_is_in_it(meta: ModelMeta) -> None:
    changed = card(meta, IMAGE_SIZE_SCHEDULE="progressive", AUGMENT=True, MIXUP=0.5, WEIGHT_DECAY=0.125)
    steps = (
        "small ones first; mirrored, shifted, turned, scaled, re-windowed",
        "mixed in pairs by shares from Beta(0.5, 0.5)",
    )
    assert "; ".join(steps) in changed
    assert "AdamW, " in changed
    assert "weight decay 0.125" in changed
    plain = card(meta, IMAGE_SIZE_SCHEDULE="constant", AUGMENT=False, MIXUP=0, WEIGHT_DECAY=0)
    assert "Adam, " in plain
    assert "all of one size; as they are; not mixed" in plain


def test_every_table_is_rectangular(meta: ModelMeta) -> None:
    tables = [block for block in card(meta).split("\n\n") if block.startswith("|")]
    assert len(tables) == 6
    for table in tables:
        assert len({line.count(" |") for line in table.splitlines()[2:]}) == 1


def test_a_synthetic_run_is_called_so_and_none_is_called_a_diagnosis(meta: ModelMeta) -> None:
    assert "**Synthetic.**" in card(meta)
    assert "**Synthetic.**" not in card(meta.model_copy(update={"synthetic": False}))
    assert "nothing that it says is a diagnosis" in card(meta)


def test_a_note_on_the_data_and_the_comparison_are_in_it(meta: ModelMeta) -> None:
    federated = BaselineModel(
        kind="federated", trained_at=["A", "B"], best_round=1, test=meta.metrics.test, hospitals=meta.metrics.hospitals
    )
    text = card(meta, BaselineRecord(models=[federated], differences=[]), DATA_NOTE="Tata is a stand-in.")
    assert "Tata is a stand-in." in text
    assert "| federated (A, B) |" in text
    assert "## Compared with" not in card(meta)
