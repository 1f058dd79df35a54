"""What the record of a round says of its hospitals, and which of two rounds is the better one."""

from collections.abc import Sequence

from flwr.app import Message

from medisync.federation.messages import COUNT, METRICS, Exchange
from medisync.federation.update_validation import Screened
from medisync.schemas import HistoryEntry, HospitalScores


def hospital_scores(strategy: Screened, training: Exchange, scoring: Exchange) -> dict[str, HospitalScores]:
    """By the name of every hospital that trained or was scored in the round."""
    trained = {strategy.name(update): update for update in strategy.accepted}
    scored = {strategy.name(answer): answer for answer in with_images(scoring.replies)}
    traffic = _traffic(strategy, training, scoring)
    return {
        name: _scores(trained.get(name), scored.get(name)).model_copy(
            update={
                **traffic[name],
                "update_norm": strategy.norms.get(name),
                "drift": strategy.drifts.get(name),
            }
        )
        for name in sorted(trained | scored)
    }


def _traffic(strategy: Screened, *exchanges: Exchange) -> dict[str, dict[str, int]]:
    """Bytes of arrays to each hospital and back."""
    traffic: dict[str, dict[str, int]] = {}
    for exchange in exchanges:
        for reply in exchange.replies:
            both = traffic.setdefault(strategy.name(reply), {"bytes_down": 0, "bytes_up": 0})
            both["bytes_down"] += exchange.sent[reply.metadata.src_node_id]
            both["bytes_up"] += exchange.received[reply.metadata.src_node_id]
    return traffic


def _scores(update: Message | None, answer: Message | None) -> HospitalScores:
    return HospitalScores(
        train_loss=_metric(update, "loss") if update else None,
        train_accuracy=_metric(update, "accuracy") if update else None,
        val_loss=_metric(answer, "loss") if answer else None,
        val_accuracy=_metric(answer, "accuracy") if answer else None,
        train_images=int(_metric(update, COUNT)) if update else 0,
        val_images=int(_metric(answer, COUNT)) if answer else 0,
        seconds=_metric(update, "seconds") if update else 0.0,
    )


def with_images(answers: Sequence[Message]) -> list[Message]:
    """The answers of hospitals that have images of the split that was asked for."""
    return [answer for answer in answers if _metric(answer, COUNT) > 0]


def _metric(reply: Message, name: str) -> float:
    return float(reply.content.metric_records[METRICS][name])  # type: ignore[arg-type]


def is_better(entry: HistoryEntry, best: HistoryEntry) -> bool:
    """By validation; a first round with larger images always is, because the final model takes the largest.

    Where one of the two was not validated, the other is better.
    """
    both = _validated(entry) & _validated(best)
    return entry.image_size > best.image_size or _quality(entry, both) > _quality(best, both)


def _validated(entry: HistoryEntry) -> set[str]:
    return {name for name, scores in entry.hospitals.items() if scores.val_images}


def _quality(entry: HistoryEntry, hospitals: set[str]) -> tuple[float, float]:
    """Validation accuracy, then validation loss, over these hospitals; test images have no say.

    Two rounds are compared by the hospitals that validated both: neither is better for the absence of hard scans.
    """
    if hospitals == _validated(entry):
        return -1.0 if entry.val_accuracy is None else entry.val_accuracy, -(entry.val_loss or 0.0)
    scored = [entry.hospitals[name] for name in sorted(hospitals)]
    images = max(1, sum(scores.val_images for scores in scored))
    accuracy = sum((scores.val_accuracy or 0.0) * scores.val_images for scores in scored) / images
    return accuracy, -sum((scores.val_loss or 0.0) * scores.val_images for scores in scored) / images
