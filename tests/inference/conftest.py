"""A model for the tests of this folder."""

import factories
import pytest

from medisync.inference import predictor
from medisync.inference.predictor import Classifier
from medisync.model.resnet import build_resnet18
from medisync.model.weights import serialise
from medisync.workspace import artifacts


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    """A ResNet18 that has not seen an image."""
    workspace = artifacts.locate(tmp_path_factory.mktemp("workspace"))
    run = factories.make_run(workspace, model=serialise(build_resnet18(seed=3).state_dict()))
    return predictor.open_run(run)
