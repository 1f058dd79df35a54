"""Evaluation of the global model on scans from outside the hospitals, which lie where the run is made."""

from collections.abc import Callable

from medisync.config import TrainingConfig
from medisync.evaluation.external import external_figures
from medisync.evaluation.totals import tally, tally_others
from medisync.federation.server_app import Outcome
from medisync.model.device import select_device
from medisync.schemas import ExternalFigures
from medisync.training.dataset import ExternalImages, ImageSet
from medisync.training.local import Outputs, predict_images


def evaluate(
    images: ExternalImages,
    outcome: Outcome,
    config: TrainingConfig,
    on_batch: Callable[[int], None] = lambda count: None,
) -> ExternalFigures:
    """Returns the figures of the global model, as it predicts scans from no hospital of the federation."""
    device, fitted = select_device(config.device), outcome.calibration_for(known=False)

    def predict(members: ImageSet) -> Outputs:
        return predict_images(outcome.state, members, device, on_batch)

    known, other = predict(images.known), predict(images.other)
    return external_figures(
        tally(
            images.known.labels,
            known.logits,
            images.known.groups,
            temperature=fitted.temperature,
            ood_scores=outcome.distribution.ood_scores(known.features),
            ood_threshold=fitted.distance_threshold,
            covariances=True,
        ),
        tally_others(
            other.logits,
            images.other.groups,
            temperature=fitted.temperature,
            ood_scores=outcome.distribution.ood_scores(other.features),
            ood_threshold=fitted.distance_threshold,
        ),
        outcome.histograms,
        fitted,
    )


def describe(figures: ExternalFigures) -> str:
    """Returns the figures in a line for the log; those that are undefined are left out."""
    known, other = figures.known, figures.other_selective
    selective = known.selective if known else None
    said = {
        "accuracy": known.accuracy if known else None,
        "confidently wrong": selective.confidently_wrong if selective else None,
        "confidently wrong of other scans": other.confidently_wrong if other else None,
    }
    return ", ".join(f"{name} {100 * value:.1f} %" for name, value in said.items() if value is not None)
