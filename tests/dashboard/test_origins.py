"""Hospitals that a page can offer as the origin of a scan: those of the run, and those that adapted its model."""

from pathlib import Path

import factories
import pytest

from medisync.dashboard import data
from medisync.model.resnet import build_resnet18
from medisync.model.weights import serialise
from medisync.workspace import adaptations, artifacts, publishing


def test_adapted_hospitals_are_found_beside_the_run_and_beside_its_published_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medisync.inference import predictor

    monkeypatch.setenv("MEDISYNC_WORKSPACE", str(tmp_path))
    workspace = artifacts.locate()
    folder = factories.make_run(workspace, model=serialise(build_resnet18(seed=3).state_dict()))
    publishing.publish(workspace, folder.name)
    (run,) = artifacts.list_runs(workspace)
    assert data.origins(run) == []
    sha256 = data.meta(run).model_sha256
    adaptations.write(workspace.models, factories.adaptation("South", sha256))
    adaptations.write(folder, factories.adaptation("West", sha256))
    adaptations.write(folder, factories.adaptation("Other model", "0" * 64))
    assert data.origins(run) == ["South", "West"]
    for name in ("South", "West"):
        found = data.classifier(run, predictor.load, name)
        assert found.adaptation is not None
        assert found.adaptation.name == name
    assert data.classifier(run, predictor.load).adaptation is None
