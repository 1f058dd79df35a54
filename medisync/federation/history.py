"""The history of a federation: the record of each round, and the comparison by which the best one is selected."""

from medisync.federation.aggregation import AggregationResult
from medisync.federation.messages import Exchange
from medisync.federation.update_validation import ValidatedScores
from medisync.schemas import HistoryEntry, HospitalScores


def hospital_scores(
    aggregation: AggregationResult, training: Exchange, scores: ValidatedScores, validation: Exchange
) -> dict[str, HospitalScores]:
    """Returns one record for each hospital whose update was aggregated or whose images validated the global model."""
    trained, scored = aggregation.accepted, scores.with_images()
    answered = [(training, {reply.hospital for reply in training.replies}), (validation, scores.accepted.keys())]

    def scores_of(name: str) -> HospitalScores:
        update, validated = trained.get(name), scored.get(name)
        return HospitalScores(
            train_loss=update.loss if update else None,
            train_accuracy=update.accuracy if update else None,
            val_loss=validated.loss if validated else None,
            val_accuracy=validated.accuracy if validated else None,
            train_images=update.images if update else 0,
            val_images=validated.images if validated else 0,
            seconds=update.seconds if update else 0.0,
            update_norm=aggregation.norms.get(name),
            drift=aggregation.drifts.get(name),
            bytes_down=sum(exchange.sent[name] for exchange, names in answered if name in names),
            bytes_up=sum(exchange.received[name] for exchange, names in answered if name in names),
        )

    return {name: scores_of(name) for name in sorted(trained.keys() | scored.keys())}


def is_better(entry: HistoryEntry, best: HistoryEntry) -> bool:
    """Returns whether a round is better than the best one so far, by validation alone.

    The first round with larger images always is, because the final model takes the largest. Where one of the two was
    not validated, the other is better.
    """
    both = _validated(entry) & _validated(best)
    return entry.image_size > best.image_size or _quality(entry, both) > _quality(best, both)


def _validated(entry: HistoryEntry) -> set[str]:
    return {name for name, scores in entry.hospitals.items() if scores.val_images}


def _quality(entry: HistoryEntry, hospitals: set[str]) -> tuple[float, float]:
    """Returns validation accuracy and negative validation loss over these hospitals.

    Two rounds are compared by the hospitals that validated both: neither is better because hard scans are absent.
    """
    if hospitals == _validated(entry):
        return -1.0 if entry.val_accuracy is None else entry.val_accuracy, -(entry.val_loss or 0.0)
    scored = [entry.hospitals[name] for name in sorted(hospitals)]
    images = max(1, sum(scores.val_images for scores in scored))
    accuracy = sum((scores.val_accuracy or 0.0) * scores.val_images for scores in scored) / images
    return accuracy, -sum((scores.val_loss or 0.0) * scores.val_images for scores in scored) / images
