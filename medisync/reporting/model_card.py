"""The model card in Markdown: what a run's model is, what it was trained on, how good it is and where it fails.

Every figure is read from the run's records. Model cards: Mitchell et al. 2019, https://arxiv.org/abs/1810.03993.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from medisync.config import Configuration, Hospital, Normalisation, TrainingConfig
from medisync.reporting import membership, outside, sentences, tables, verdicts
from medisync.reporting.formatting import CLASS_NAMES, NO_VALUE, count, decimal, listed, moment, number, percent
from medisync.reporting.headlines import lowest_in_words
from medisync.reporting.outside import Claim
from medisync.schemas import (
    BaselineRecord,
    Calibration,
    DatasetStats,
    ExternalEvaluation,
    MembershipRecord,
    Metrics,
    ModelMeta,
    ModelMetrics,
    Transport,
)

PURPOSE = """For research use only, non-commercial. This is not a medical device, and its output is not a diagnosis. It shows what
federated learning does for one task: to assign a single brain MRI slice to one of four classes. It does not detect or
outline lesions. It knows no other disease, organ or modality, and was trained on slices of adults that had already been
selected for what they show. Never base a decision about a patient on it."""

OWNED = "The images used are those left after every slice that several hospitals hold was assigned to one of them."

SHARED = "Slices that several hospitals hold were left at each of them."

USED = """Copies of a slice that were found are on the same side of a split, across hospitals too. Slices that occur under two
labels are left out."""

USED_APART = """Each hospital split its own images: there, copies of a slice are on the same side of a split, and slices that
occur under two labels are left out. Images never left their hospital, so copies of one hospital's
scans at another could not be detected: if hospitals share patients, these figures are too optimistic."""

LIMITS = """- Slices, not examinations: a radiologist reads all sequences of a patient; this model sees one slice of one sequence.
- The scans come from public collections that play the roles of hospitals. No hospital named here provided data or
  endorsed anything.
- Labels are those of the collections and were not reviewed. The collections do not record age, sex, scanner or field
  strength, so no figures for subgroups can be given.
- Where the patient of an image is not known (see Data), slices of one patient may be on both sides of a split. Copies and
  near copies that were found are not.
- Calibration, verdicts, the out-of-distribution score and the prediction sets are valid for scans like those of these hospitals.
  A scan from elsewhere may be misclassified with high confidence."""

LEFT_OUT: Mapping[str, str] = {
    "unresolved": "in folders that are in no class map",
    "unreadable": "unreadable",
    "quarantined": "quarantined, because a slice occurs under two labels",
    "skipped": "files that are no images",
}

LEFT_OUT_HOSPITALS = (
    "Accuracy at a hospital, trained with it and without it: the second is what it could expect before joining."
)

NORMALISATIONS: Mapping[Normalisation, str] = {
    "group": "GroupNorm with weight-standardised convolution kernels",
    "averaged": "BatchNorm with averaged running statistics",
    "local": "BatchNorm with each hospital's own running statistics",
}


def write(
    meta: ModelMeta,
    configuration: Configuration,
    software: Mapping[str, str],
    baselines: BaselineRecord | None,
    transport: Transport = "in one process",
    external: Mapping[str, ExternalEvaluation] | None = None,
    attacked: MembershipRecord | None = None,
) -> str:
    """Returns the model card of a run; `external` has the evaluation of each external dataset, by its name."""
    test, elsewhere = meta.metrics.test, meta.metrics.test_elsewhere
    sections = [
        f"# Model card: {meta.run}",
        _synthetic(meta),
        membership.warning(attacked),
        f"## Intended use\n\n{PURPOSE}",
        f"## Model\n\n{_model(meta, software, configuration)}",
        f"## Data\n\n{_data(meta, configuration, transport)}",
        f"## Test results\n\n{_frame(tables.metrics(test, meta.metrics.hospitals, elsewhere))}\n\n{_test_note(meta)}",
        f"## Results by class\n\n{_by_class(test, elsewhere)}",
        f"## Calibration and uncertainty\n\n{_uncertainty(meta)}",
        f"## Outside its hospitals\n\n{_outside(meta, external or {}, baselines)}",
        f"## Comparison\n\nTest accuracy.\n\n{_frame(tables.model_accuracies(baselines))}" if baselines else "",
        f"## Membership inference\n\n{_membership(attacked)}",
        f"## Limitations\n\n{LIMITS}",
        f"## CLAIM 2024\n\n{_checklist(meta, bool(external))}",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _synthetic(meta: ModelMeta) -> str:
    warning = "**Synthetic.** Trained on computer-drawn phantom heads. Its figures say nothing about patients."
    return warning if meta.synthetic else ""


def _model(meta: ModelMeta, software: Mapping[str, str], configuration: Configuration) -> str:
    training, federation = configuration.training, configuration.federation
    rows = {
        "Network": f"ResNet18 without pretrained weights (He et al. 2016), {NORMALISATIONS[training.normalisation]}, "
        "four outputs",
        "Input": f"{meta.image_size} × {meta.image_size} pixels, cropped to the head, greyscale, normalised by ImageNet's "
        "mean and standard deviation",
        "Training": f"{federation.strategy}, {meta.num_epochs} rounds of {training.local_epochs:g} local epochs; "
        f"round {meta.best_epoch} selected by validation accuracy",
        "Local optimiser": _optimiser(training),
        "Augmentation": _augmentation(training),
        "Trained": f"{moment(meta.trained_at)}, on {meta.device.upper()}",
        "Software": ", ".join(f"{name} {version}" for name, version in software.items()),
        "SHA-256": f"`{meta.model_sha256}`",
    }
    return _table(("Property", "Value"), rows.items())


def _optimiser(training: TrainingConfig) -> str:
    batches = f"batches of {training.batch_size}"
    if training.steps_per_epoch:
        batches = f"{training.steps_per_epoch} batches per epoch at every hospital"
    return (
        f"{'AdamW' if training.weight_decay else 'Adam'}, learning rate {training.learning_rate:g} "
        f"({training.learning_rate_schedule}), weight decay {training.weight_decay:g}, {batches}, "
        f"{training.adam_moments} moments, seed {training.seed}"
    )


def _augmentation(training: TrainingConfig) -> str:
    beta = f"Beta({training.mixup:g}, {training.mixup:g})"
    return "; ".join(
        [
            "constant image size" if training.image_size_schedule == "constant" else "small images first",
            "mirrored, shifted, rotated, scaled, re-windowed" if training.augment else "no geometric changes",
            f"mixup of pairs with weights from {beta}" if training.mixup else "no mixup",
        ]
    )


def _data(meta: ModelMeta, configuration: Configuration, transport: Transport) -> str:
    head = ("Simulated hospital", "Source", "Licence", "Found", "Used", "Training / validation / test", "Classes used")
    rows = [_hospital_row(each, meta.datasets[each.name]) for each in configuration.hospitals]
    owned = OWNED if configuration.splits.cross_hospital_duplicates == "one-owner" else SHARED
    used = f"{owned} {USED}" if transport == "in one process" else USED_APART
    parts = (_table(head, rows), used, _patients(meta), _left_out(meta), configuration.card.data_note)
    return "\n\n".join(part for part in parts if part)


def _patients(meta: ModelMeta) -> str:
    """Returns how far splits are disjoint by patient: at hospitals where all, some or none of the patients are known."""
    usable = {name: sum(stats.found.values()) for name, stats in meta.datasets.items()}
    known = {name: stats.with_patient for name, stats in meta.datasets.items() if stats.with_patient is not None}
    full = [name for name, images in known.items() if images and images == usable[name]]
    none = [name for name, images in known.items() if not images]
    parts = [
        f"The patient list covers {number(images)} of {number(usable[name])} images of {name}: images of one listed patient "
        "are on the same side of a split, slices of one patient among the others may be on both sides."
        for name, images in known.items()
        if 0 < images < usable[name]
    ]
    if full:
        parts.append(f"The patient of every image of {listed(full)} is known: a patient is on one side of a split.")
    if none:
        parts.append(f"No patient is known at {listed(none)}: slices of one patient may be on both sides of a split.")
    return "\n".join(parts)


def _left_out(meta: ModelMeta) -> str:
    """Returns what each hospital has that could not be used, by reason."""
    lines = [
        f"- {name}: " + ", ".join(f"{number(files)} {LEFT_OUT[reason]}" for reason, files in stats.left_out.items())
        for name, stats in meta.datasets.items()
        if stats.left_out
    ]
    return "\n".join(["Left out, file by file in audit.json:", "", *lines]) if lines else ""


def _hospital_row(hospital: Hospital, stats: DatasetStats) -> tuple[str, ...]:
    classes = {CLASS_NAMES[label].lower(): images for label, images in stats.class_distribution.items() if images}
    return (
        hospital.name,
        hospital.source or "not stated",
        hospital.licence or "not stated",
        number(sum(stats.found.values())),
        number(stats.total),
        " / ".join(number(sum(counts.values())) for counts in stats.splits.values()),
        ", ".join(f"{name} {number(images)}" for name, images in classes.items()),
    )


def _test_note(meta: ModelMeta) -> str:
    return (
        f"Lowest accuracy of a hospital: {lowest_in_words(meta.metrics.hospitals)}. "
        "Test images were held out from training, calibration and model selection within the run, and read once, at its "
        "end. In brackets: 95 % confidence intervals over groups of related images."
    )


def _by_class(test: Metrics, elsewhere: Metrics | None) -> str:
    parts = [_frame(tables.per_class(test))]
    if elsewhere:
        parts += [f"{sentences.KNOWING_THE_HOSPITAL} {tables.NOT_KNOWN}:", _frame(tables.per_class(elsewhere))]
    return "\n\n".join(parts)


def _outside(meta: ModelMeta, external: Mapping[str, ExternalEvaluation], compared: BaselineRecord | None) -> str:
    """Returns what holds on scans from elsewhere, and at a hospital that the model was not trained at."""
    inside = outside.inside(meta.metrics)
    parts = [_external_set(inside, name, found) for name, found in external.items()] or [sentences.NO_EXTERNAL_SET]
    if external and meta.metrics.test_elsewhere:
        parts.insert(0, sentences.AS_IF_FROM_ANYWHERE)
    without = outside.left_out_hospitals(compared) if compared else None
    if without is not None and not without.empty:
        parts.append(f"{LEFT_OUT_HOSPITALS}\n\n{_frame(without)}")
    return "\n\n".join(parts)


def _external_set(inside: Metrics, name: str, found: ExternalEvaluation) -> str:
    said, claims = sentences.external_set(name, found), outside.claims(found)
    if not claims:
        return said
    parts = [said, _holds(claims), _frame(outside.claim_table(found)), _frame(outside.figures(inside, found))]
    if found.known:
        parts.append(f"By class:\n\n{_frame(tables.per_class(found.known))}")
    return "\n\n".join(parts)


def _membership(attacked: MembershipRecord | None) -> str:
    """Returns what the model gives away about which scans it was trained on."""
    said = membership.summary(attacked)
    if not (attacked and attacked.attacks):
        return said
    return f"{said}\n\n{_frame(membership.attacks(attacked))}\n\n{membership.METHOD}"


def _holds(claims: Sequence[Claim]) -> str:
    kept = sum(each.holds for each in claims)
    return (
        f"{number(kept)} of {count(len(claims), 'aim')} of this project outside the hospitals "
        f"{'is' if kept == 1 else 'are'} reached:"
    )


def _uncertainty(meta: ModelMeta) -> str:
    tested = tables.uncertainty(meta.metrics.test, meta.metrics.test_elsewhere)
    calibrations = [meta.calibration, meta.calibration_at("")][: len(tested.columns)]
    fitted = pd.DataFrame({name: _fitted(each) for name, each in zip(tested.columns, calibrations, strict=True)})
    splits = {"validation": fitted, "test": tested}
    rows = [(name, split, *cells) for split, found in splits.items() for name, *cells in found.itertuples(name=None)]
    parts = [_table(("Measure", "Split", *tested.columns), rows), verdicts.thresholds(meta), _answered(meta.metrics)]
    parts.append("\n".join(f"- {each}" for each in verdicts.priors(meta)))
    return "\n\n".join(part for part in parts if part)


def _fitted(found: Calibration) -> dict[str, str]:
    """Returns what was fitted on validation scans."""
    answers = {
        "Confidence from which an answer is without doubt": verdicts.threshold_value(found.answer_threshold),
        "Confidence below which there is no answer": verdicts.threshold_value(found.doubt_threshold),
    }
    return {
        "Temperature": decimal(found.temperature, 2),
        "ECE before and after calibration": f"{percent(found.ece_before)}, {percent(found.ece_after)}",
        "Brier score before and after calibration": f"{decimal(found.brier_before)}, {decimal(found.brier_after)}",
        "OOD score above which a scan is flagged (1 is typical)": decimal(found.distance_threshold, 2),
        **(answers if found.answer_threshold is not None else {}),
    }


def _answered(found: ModelMetrics) -> str:
    """Returns how many of the hospitals' own test scans get an answer; empty for a run before verdicts."""
    known = verdicts.what_is_answered(found.test.selective)
    unknown = verdicts.what_is_answered(found.test_elsewhere.selective) if found.test_elsewhere else ""
    said = [f"Of the hospitals' own test scans, {known}"] if known else []
    if unknown:
        said.append(f"Of the same scans, predicted as if their hospital were not known, {unknown}")
    return " ".join(said)


def _checklist(meta: ModelMeta, has_external_set: bool) -> str:
    """Returns the checklist's items in our words, and where each is answered."""
    answers = {
        "Type of AI, intended use": "Intended use",
        "Data sources, selection, exclusions": "Data; audit.json names every image left out and why",
        "Preprocessing": "Model; `medisync/data/` is the only path from a file to the network",
        "De-identification": "public collections; neither names nor identifiers inside files are stored; audit.json repeats what patients.csv calls a patient",
        "Reference standard": "the collections' labels, not reviewed",
        "Partitions, level at which they are disjoint": "Data: slices, and patients where they are known; dataset_splits.json names every image",
        "Sample size": "all images of the collections; the intervals show the resulting precision",
        "Architecture, initialisation, training, selection": "Model; run.json holds every parameter",
        "Metrics with uncertainty": "Test results, Results by class",
        "Calibration, abstention": "Calibration and uncertainty",
        "Robustness, external testing": "Comparison, by hospital; "
        + ("Outside its hospitals" if has_external_set else "no external test set"),
        "Explainability": "heat maps in the dashboard, checked against phantom lesions",
        "Failure analysis": "the dashboard's confusion matrices and most confident errors",
        "Code and model": f"this repository; {meta.run} with hashes in run.json",
    }
    head = "Items of the Checklist for AI in Medical Imaging (Tejani et al. 2024, https://doi.org/10.1148/ryai.240300)"
    return f"{head}:\n\n{_table(('Item', 'Where'), answers.items())}"


def _frame(found: pd.DataFrame) -> str:
    """Returns a DataFrame of text as a Markdown table."""
    return _table((str(found.index.name), *found.columns), found.itertuples(name=None))


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|") or NO_VALUE
