"""Heat maps against the truth: phantoms whose lesions are known, and an untrained network for comparison."""

import factories
import numpy as np
import pytest
import recipes
import torch
from PIL import Image

from medisync.imaging.preprocessing import head_box, pad_to_square, standardise
from medisync.inference import explanation, predictor
from medisync.inference.predictor import Classifier
from medisync.model.device import memory_kept, select_device
from medisync.model.resnet import build_resnet18, restore_network
from medisync.model.weights import State
from medisync.phantom.scanner import PhantomSlice, draw_slice
from medisync.phantom.styles import STYLES
from medisync.schemas import LABELS
from medisync.training.dataset import ImageSet
from medisync.training.local import RoundInstructions, train_locally
from medisync.training.schedules import scheduled_rate

SIDE = 96
EPOCHS = 8
DEVICE = select_device("auto")


def draw(count: int, seed: int) -> tuple[ImageSet, np.ndarray]:
    """Standardised phantoms of every class and hospital, and where their tumours with oedema are, bool [N, S, S]."""
    generator, styles = np.random.default_rng(seed), list(STYLES.values())
    slices = [draw_slice(LABELS[i % 4], style=styles[i // 4 % len(styles)], generator=generator) for i in range(count)]
    pixels = np.stack([standardise(each.image, SIDE) for each in slices])
    labels = np.array([LABELS.index(each.label) for each in slices])
    return ImageSet(pixels, labels, np.arange(count)), np.stack([_standardise_mask(each) for each in slices])


def _standardise_mask(drawn: PhantomSlice) -> np.ndarray:
    mask = pad_to_square(drawn.lesion[head_box(drawn.image)].astype(np.uint8) * 255)
    return np.asarray(Image.fromarray(mask).resize((SIDE, SIDE), Image.Resampling.BILINEAR)) > 127


def classifier(state: State) -> Classifier:
    meta = factories.meta().model_copy(update={"image_size": SIDE})
    return Classifier(restore_network(state, DEVICE).eval(), DEVICE, factories.distribution(), meta)


@pytest.fixture(scope="module")
def trained() -> Classifier:
    """A network that has learned the phantoms: about nine of ten unseen ones."""
    data, _ = draw(640, seed=1)
    config = recipes.training(image_size=SIDE, batch_size=16)
    state: State = build_resnet18(seed=0).state_dict()
    with memory_kept():
        for number in range(1, EPOCHS + 1):
            rate = scheduled_rate(1e-3, "cosine", number, EPOCHS)
            generator = torch.Generator().manual_seed(number)
            state = train_locally(
                state, data, RoundInstructions(config, rate), generator=generator, device=DEVICE
            ).state
    return classifier(state)


def heat_of(chosen: Classifier, data: ImageSet, indices: np.ndarray) -> np.ndarray:
    return np.stack([explanation.explain(chosen, data.pixels[i], LABELS[data.labels[i]]) for i in indices])


def test_the_peak_lies_in_the_lesion_and_depends_on_the_weights(trained: Classifier) -> None:
    data, masks = draw(160, seed=2)
    predicted = predictor.forward(trained, data.pixels)[0].argmax(axis=1)
    tumours = np.flatnonzero((predicted == data.labels) & masks.any(axis=(1, 2)))
    assert len(tumours) > 80
    heat = heat_of(trained, data, tumours)
    assert hits(heat, masks[tumours]) >= 0.8
    untrained = heat_of(classifier(build_resnet18(seed=9).state_dict()), data, tumours[:40])
    assert hits(untrained, masks[tumours[:40]]) < 0.3
    alike = [np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] for ours, theirs in zip(heat, untrained, strict=False)]
    assert np.median(alike) < 0.5  # below it they share less than a quarter of their variance; 0.30 to 0.35 by machine


def hits(heat: np.ndarray, masks: np.ndarray) -> float:
    """The fraction of maps whose highest pixel lies in the lesion."""
    peaks = heat.reshape(len(heat), -1).argmax(axis=1)
    return float(masks.reshape(len(masks), -1)[np.arange(len(masks)), peaks].mean())


def test_a_map_has_the_size_of_the_image_and_values_from_0_to_1() -> None:
    heat = explanation.explain(classifier(build_resnet18(seed=1).state_dict()), draw(1, seed=3)[0].pixels[0], "glioma")
    assert heat.shape == (SIDE, SIDE)
    assert heat.dtype == np.float32
    assert heat.min() >= 0
    assert heat.max() == pytest.approx(1)


def test_views_are_undone() -> None:
    pixels = torch.arange(64, dtype=torch.float32).reshape(8, 8)
    assert all(torch.equal(view, pixels) for view in explanation._undo_views(explanation._views(pixels)))
    assert not torch.equal(*explanation._views(pixels)[:2])
