"""The model card: what a run's model is, what it was trained on, how good it is and where it fails, as Markdown.

Every figure is read from the run's records. Model cards: Mitchell et al. 2019, https://arxiv.org/abs/1810.03993.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from medisync.config import Configuration, Normalisation, TrainingConfig
from medisync.schemas import BaselineRecord, DatasetStats, Interval, Metrics, ModelMeta, Transport

CLASS_NAMES = {
    "glioma": "glioma",
    "meningioma": "meningioma",
    "pituitary": "pituitary tumour",
    "notumor": "no tumour",
}

PURPOSE = """Research use only, non-commercial. This is not a medical device, and nothing that it says is a diagnosis. It shows
what federated learning does for one kind of question: which of four classes a single brain MRI slice belongs to. It does not
find or outline lesions, knows no other disease, no other organ and no other modality, and has seen adults' slices that
somebody had already chosen because they show something. Never base a decision about a patient on it."""

USED = """Used are the images that are left after each slice that several hospitals have was given to one of them. Copies of
a slice and slices of a patient are on one side of a split, across hospitals too; slices that occur under two labels are left
out."""

USED_APART = """Each hospital split its own images: copies of a slice and slices of a patient are on one side of a split there;
slices that occur under two labels are left out. Images never met, so that copies of one hospital's scans at another could
not be found: where hospitals share patients, these figures are too good."""

LIMITS = """- Slices, not examinations: a radiologist reads all sequences of a patient, this model one slice of one sequence.
- The scans are public collections in the roles of hospitals; no hospital named here gave data or endorsed anything.
- Labels are those of the collections; nobody re-read them. Age, sex, scanner and field strength are not recorded there, so
  that no figure for subgroups can be given.
- Where a collection has no patient ids, slices of one patient may be on both sides of a split; copies and near-copies are
  not.
- Calibration, the warning "unlike the training scans" and the prediction sets hold for scans like those of these hospitals.
  A scan from elsewhere may be misjudged with confidence."""


def write(
    meta: ModelMeta,
    configuration: Configuration,
    software: Mapping[str, str],
    baselines: BaselineRecord | None,
    transport: Transport = "in one process",
) -> str:
    """The card of a run."""
    sections = [
        f"# Model card: {meta.run}",
        _synthetic(meta),
        f"## What it is for\n\n{PURPOSE}",
        f"## The model\n\n{_model(meta, software, configuration)}",
        f"## Data\n\n{_data(meta, configuration, transport)}",
        f"## Figures\n\n{_figures(meta)}",
        f"## By class\n\n{_classes(meta.metrics.test)}",
        f"## Trust\n\n{_trust(meta)}",
        f"## Compared with\n\n{_comparison(baselines)}" if baselines else "",
        f"## Limits\n\n{LIMITS}",
        f"## CLAIM 2024\n\n{_checklist(meta)}",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _synthetic(meta: ModelMeta) -> str:
    warning = "**Synthetic.** Trained on computer-drawn phantom heads. Its figures say nothing about patients."
    return warning if meta.synthetic else ""


def _model(meta: ModelMeta, software: Mapping[str, str], configuration: Configuration) -> str:
    training, federation = configuration.training, configuration.federation
    rows = {
        "Network": f"ResNet18 without pretrained weights (He et al. 2016), {NORMALISATIONS[training.normalisation]}, four outputs",
        "Input": f"{meta.image_size} x {meta.image_size} pixels, cut to the head, grey, ImageNet mean and deviation",
        "Training": f"{federation.strategy}, {meta.num_epochs} rounds of {training.local_epochs:g} local epochs, "
        f"round {meta.best_epoch} kept by validation accuracy",
        "Local optimiser": f"{'AdamW' if training.weight_decay else 'Adam'}, learning rate {training.learning_rate:g} ({training.learning_rate_schedule}), "
        f"weight decay {training.weight_decay:g}, "
        f"{_batches(training)}, {training.adam_moments} moments, seed {training.seed}",
        "Images in training": _changes(training),
        "Trained": f"{meta.trained_at}, on {meta.device.upper()}",
        "Software": ", ".join(f"{name} {number}" for name, number in software.items()),
        "SHA-256": f"`{meta.model_sha256}`",
    }
    return _table(("", ""), rows.items())


NORMALISATIONS: Mapping[Normalisation, str] = {
    "group": "GroupNorm, kernels standardised",
    "averaged": "BatchNorm, statistics averaged",
    "local": "BatchNorm, each hospital's own statistics",
}


def _batches(training: TrainingConfig) -> str:
    if training.steps_per_epoch:
        return f"{training.steps_per_epoch} batches a pass at every hospital"
    return f"batches of {training.batch_size}"


def _sizes(training: TrainingConfig) -> str:
    if training.image_size_schedule == "constant":
        return "all of one size"
    return "small ones first"


def _changes(training: TrainingConfig) -> str:
    changes = [
        _sizes(training),
        "mirrored, shifted, turned, scaled, re-windowed" if training.augment else "as they are",
        f"mixed in pairs by shares from Beta({training.mixup:g}, {training.mixup:g})"
        if training.mixup
        else "not mixed",
    ]
    return "; ".join(changes)


def _data(meta: ModelMeta, configuration: Configuration, transport: Transport) -> str:
    rows = [
        (
            each.name,
            each.source or "not stated",
            each.licence or "not stated",
            sum(meta.datasets[each.name].found.values()),
            meta.datasets[each.name].total,
            _parts(meta.datasets[each.name]),
            _mix(meta.datasets[each.name]),
        )
        for each in configuration.hospitals
    ]
    head = ("hospital in the simulation", "source", "licence", "found", "used", "train / val / test", "classes used")
    used = USED if transport == "in one process" else USED_APART
    parts = [_table(head, rows), used, configuration.card.data_note]
    return "\n\n".join(part for part in parts if part)


def _parts(stats: DatasetStats) -> str:
    return " / ".join(str(sum(stats.splits[part].values())) for part in stats.splits)


def _mix(stats: DatasetStats) -> str:
    return ", ".join(f"{CLASS_NAMES[label]} {count}" for label, count in stats.class_distribution.items() if count)


def _figures(meta: ModelMeta) -> str:
    places = {"all hospitals": meta.metrics.test, **meta.metrics.hospitals}
    rows = [
        (
            name,
            scores.n,
            *(_with_interval(scores, figure) for figure in ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc")),
            _fraction(scores.ece),
            _fraction(scores.brier),
        )
        for name, scores in places.items()
    ]
    head = ("test images of", "n", "accuracy", "balanced accuracy", "macro F1", "macro AUC", "ECE", "Brier")
    return (
        f"{_table(head, rows)}\n\nTest images were read once. In brackets 95 % bootstrap intervals, resampled by group."
    )


def _classes(scores: Metrics) -> str:
    rows = [
        (
            CLASS_NAMES[label],
            figures.support,
            *(
                f"{_fraction(getattr(figures, name))}{_range(figures.intervals.get(name))}"
                for name in ("recall", "specificity", "precision", "auc")
            ),
        )
        for label, figures in scores.per_class.items()
    ]
    return _table(("class", "n", "sensitivity", "specificity", "precision", "AUC"), rows)


def _trust(meta: ModelMeta) -> str:
    fitted, test = meta.calibration, meta.metrics.test
    rows = {
        "Temperature": f"{fitted.temperature:.2f}",
        "ECE on validation, before and after": f"{_fraction(fitted.ece_before)}, {_fraction(fitted.ece_after)}",
        "Brier score on validation, before and after": f"{_fraction(fitted.brier_before)}, "
        f"{_fraction(fitted.brier_after)}",
        "90 % prediction sets on test": f"hold the true class in {_fraction(test.coverage)}, "
        f"{_fraction(test.set_size)} classes on average",
        "Unlike the training scans": f"further than {fitted.distance_threshold:.2f} (1 is usual); one in twenty validation scans, "
        f"{_fraction(test.unlike_training)} of test scans",
    }
    return _table(("fitted on validation", ""), rows.items())


def _comparison(record: BaselineRecord) -> str:
    places = list(record.models[0].hospitals)
    rows = [
        (
            f"{each.kind} ({', '.join(each.trained_at)})",
            _with_interval(each.test, "accuracy"),
            *(_with_interval(each.hospitals[name], "accuracy") for name in places),
        )
        for each in record.models
    ]
    return _table(("trained", "all hospitals", *places), rows)


def _checklist(meta: ModelMeta) -> str:
    """What the checklist asks for, in our words, and where the answer is."""
    answers = {
        "Kind of AI, intended use": "above",
        "Data sources, selection, exclusions": "Data; audit.json names every image left out and why",
        "Preprocessing": "The model; `medisync/images.py` is the only path from a file to the network",
        "De-identification": "public collections; neither names nor patient ids of files are kept",
        "Reference standard": "the collections' labels; nobody re-read them",
        "Partitions, level at which they are disjoint": "Data; dataset_splits.json names every image",
        "Sample size": "all images of the collections; intervals show what that is worth",
        "Architecture, initialisation, training, selection": "The model; run.json holds every parameter",
        "Metrics with uncertainty": "Figures, By class",
        "Calibration, abstention": "Trust",
        "Robustness, external testing": "the table of models by hospital; no external test set",
        "Explainability": "heat maps in the dashboard, checked against phantom lesions",
        "Failure analysis": "the dashboard's confusion matrices and most confident errors",
        "Code and model": f"this repository; {meta.run} with hashes in run.json",
    }
    head = "What the Checklist for AI in Medical Imaging (Tejani et al. 2024, https://doi.org/10.1148/ryai.240300) asks for"
    return f"{head}:\n\n{_table(('item', 'where'), answers.items())}"


def _with_interval(scores: Metrics, name: str) -> str:
    return f"{_fraction(getattr(scores, name))}{_range(scores.intervals.get(name))}"


def _fraction(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _range(interval: Interval | None) -> str:
    return f" ({interval.low:.3f} to {interval.high:.3f})" if interval else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
