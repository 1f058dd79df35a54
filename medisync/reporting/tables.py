"""Tables of a run: records -> pandas DataFrames whose cells are text that is ready to read.

The notebook shows them as they are; the dashboard escapes and draws them in `dashboard/components.py`. The index names
the rows. Fractions are in percent, intervals are 95 % confidence intervals over groups, an undefined value is a dash.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from medisync.reporting.formatting import (
    ALL_HOSPITALS,
    CLASS_NAMES,
    NO_VALUE,
    auc_with_interval,
    decimal,
    duration,
    megabytes,
    model_name,
    number,
    p_value,
    percent,
    plain,
    points,
    with_interval,
    yes_no,
)
from medisync.schemas import (
    LABELS,
    SPLITS,
    AuditedImage,
    AuditRecord,
    BaselineModel,
    BaselineRecord,
    DatasetStats,
    HistoryEntry,
    HospitalAudit,
    Metrics,
    ModelMeta,
    PairedDifference,
    SelectiveMetrics,
    Split,
    SplitRecord,
)

SPLIT_NAMES: Mapping[Split, str] = {"train": "Training", "val": "Validation", "test": "Test"}

KNOWN, NOT_KNOWN = "Hospital known", "Hospital not known"
"""Names of figures of the same scans, predicted as scans of their hospital and as scans from anywhere."""

LEFT_OUT_ORDER = ("unreadable", "quarantined", "unresolved")
"""Files that need somebody's attention come first; a single unresolved folder may hold thousands."""


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> pd.DataFrame:
    """Returns a DataFrame with these columns, the first of which names the rows."""
    return pd.DataFrame(list(rows), columns=list(columns)).set_index(columns[0])


def folders(audit: AuditRecord) -> pd.DataFrame:
    """Returns every folder that holds images and the class it stands for; folders in no class map come first."""
    rows = [
        (plain(name), plain(folder.name), class_or_unresolved(folder.label), number(folder.images))
        for name, found in audit.hospitals.items()
        for folder in sorted(found.folders, key=lambda folder: folder.label is not None)
    ]
    return table(("Hospital", "Folder", "Class", "Images"), rows)


def class_or_unresolved(label: str | None) -> str:
    """Returns the name of a class, or says that the folder is in no class map."""
    names: Mapping[str, str] = {str(known): name for known, name in CLASS_NAMES.items()}
    return names[label] if label else "unresolved, left out"


def audit_summary(audit: AuditRecord) -> pd.DataFrame:
    """Returns one column per hospital: images per class, files left out by reason, copies, sizes."""
    columns = {plain(name): _audit_figures(found) for name, found in audit.hospitals.items()}
    return pd.DataFrame(columns).rename_axis("Measure")


def _audit_figures(found: HospitalAudit) -> dict[str, str]:
    counts = {
        **{CLASS_NAMES[label]: images for label, images in found.class_distribution.items()},
        "Usable": found.total,
        "Unresolved": found.unresolved,
        "Unreadable": found.unreadable,
        "Quarantined": found.quarantined,
        "Files that are not images": sum(found.skipped.values()),
        "Exact copies": found.exact_copies,
        "Near-duplicates": found.near_copies,
    }
    return {
        **{name: number(images) for name, images in counts.items()},
        "Known patients": number(found.patients) if found.patients else NO_VALUE,
        "Images of known patients": _of_total(found.with_patient, found.total),
        "Most frequent size": next(iter(found.sizes), NO_VALUE),
        "Pixel modes": ", ".join(f"{mode} {number(images)}" for mode, images in found.modes.items()) or NO_VALUE,
    }


def _of_total(part: int | None, total: int) -> str:
    return NO_VALUE if part is None else f"{number(part)} of {number(total)}"


def overlaps(audit: AuditRecord) -> pd.DataFrame:
    """Returns how many images of the hospital in the row show a slice that the hospital in the column has too."""
    shared = {(each.hospital, each.other): each.images for each in audit.overlaps}
    rows = [
        (
            plain(row),
            *(NO_VALUE if row == column else number(shared.get((row, column), 0)) for column in audit.hospitals),
        )
        for row in audit.hospitals
    ]
    return table(("Hospital", *map(plain, audit.hospitals)), rows)


def copies(audit: AuditRecord) -> pd.DataFrame:
    """Returns example pairs of files that show the same slice."""
    rows = [
        (plain(pair.first), plain(pair.second), decimal(pair.correlation, 4), yes_no(pair.mirrored))
        for pair in audit.examples
    ]
    return table(("First file", "Second file", "Correlation", "Mirrored"), rows)


def left_out(audit: AuditRecord) -> pd.DataFrame:
    """Returns every image that the run could not use, with the reason."""
    images = [image for image in audit.images if image.status != "ok"]
    rows = [_left_out_row(image) for image in sorted(images, key=lambda image: LEFT_OUT_ORDER.index(image.status))]
    return table(("Hospital", "File", "Status", "Reason"), rows)


def _left_out_row(image: AuditedImage) -> tuple[str, str, str, str]:
    return plain(image.hospital), plain(image.path), image.status, plain(image.reason)


def splits(record: SplitRecord) -> pd.DataFrame:
    """Returns images per hospital, split and class."""
    counts = {
        (plain(name), SPLIT_NAMES[part]): Counter(image.label for image in getattr(split, part))
        for name, split in record.hospitals.items()
        for part in SPLITS
    }
    return pd.DataFrame(
        [[*(number(found[label]) for label in LABELS), number(found.total())] for found in counts.values()],
        pd.MultiIndex.from_tuples(counts, names=["Hospital", "Split"]),
        [*CLASS_NAMES.values(), "Total"],
    )


def rounds(history: Sequence[HistoryEntry], best_round: int) -> pd.DataFrame:
    """Returns the rounds with a validation or a refused update; validation accuracy is the global model's."""
    hospitals = list(dict.fromkeys(name for entry in history for name in entry.hospitals))
    columns = ("Round", "Training loss", "Training accuracy", "Validation loss", "Validation accuracy")
    shown = [entry for entry in history if entry.val_loss is not None or entry.refused]
    return table(
        (
            *columns,
            *(f"At {plain(name)}" for name in hospitals),
            "Refused or absent",
            "Learning rate",
            "Time",
        ),
        [_round_row(entry, hospitals, best_round) for entry in shown],
    )


def _round_row(entry: HistoryEntry, hospitals: Sequence[str], best_round: int) -> tuple[str, ...]:
    return (
        f"{number(entry.epoch)} (selected)" if entry.epoch == best_round else number(entry.epoch),
        decimal(entry.train_loss),
        percent(entry.train_accuracy),
        decimal(entry.val_loss),
        percent(entry.val_accuracy),
        *(percent(entry.hospitals[name].val_accuracy if name in entry.hospitals else None) for name in hospitals),
        ", ".join(plain(refusal.hospital) for refusal in entry.refused),
        f"{entry.learning_rate:.2g}",
        duration(entry.seconds),
    )


def participation(history: Sequence[HistoryEntry]) -> pd.DataFrame:
    """Returns each hospital's rounds, refusals and absences, training time and network traffic."""
    trained = {name for entry in history for name in entry.hospitals}
    refused = {refusal.hospital for entry in history for refusal in entry.refused}
    columns = ("Hospital", "Rounds trained", "Refused or absent", "Training time per round", "Received", "Sent")
    return table(columns, [_participation_row(name, history) for name in sorted(trained | refused)])


def _participation_row(name: str, history: Sequence[HistoryEntry]) -> tuple[str, ...]:
    found = [entry.hospitals[name] for entry in history if name in entry.hospitals]
    trained = [scores for scores in found if scores.train_images]
    seconds = [scores.seconds for scores in trained if scores.seconds]
    return (
        plain(name),
        number(len(trained)),
        number(sum(refusal.hospital == name for entry in history for refusal in entry.refused)),
        duration(sum(seconds) / len(seconds)) if seconds else NO_VALUE,
        megabytes(sum(scores.bytes_down for scores in found)),
        megabytes(sum(scores.bytes_up for scores in found)),
    )


def hospitals(meta: ModelMeta) -> pd.DataFrame:
    """Returns each hospital's scans, the classes that it lacks and the global model's test accuracy there."""
    rows = [
        (
            plain(name),
            number(stats.total),
            ", ".join(missing_classes(stats)) or NO_VALUE,
            with_interval(meta.metrics.hospitals.get(name), "accuracy"),
        )
        for name, stats in meta.datasets.items()
    ]
    return table(("Hospital", "Scans", "Missing classes", "Test accuracy"), rows)


def missing_classes(stats: DatasetStats) -> list[str]:
    """Returns the names of the classes of which a hospital has no scan."""
    return [CLASS_NAMES[label] for label in LABELS if not stats.class_distribution.get(label)]


def metrics(test: Metrics, hospitals: Mapping[str, Metrics], elsewhere: Metrics | None = None) -> pd.DataFrame:
    """Returns the global model's test metrics: all hospitals together, then each hospital.

    `elsewhere` are those of all hospitals' scans as if their hospitals were not known, where that makes a difference.
    """
    columns = ("Test scans of", "Scans", "Accuracy", "Balanced accuracy", "Macro F1", "Macro AUC", "ECE", "Brier score")
    unknown = {f"{ALL_HOSPITALS}, {NOT_KNOWN.lower()}": elsewhere} if elsewhere else {}
    return table(
        columns, [_metrics_row(name, each) for name, each in {ALL_HOSPITALS: test, **unknown, **hospitals}.items()]
    )


def _metrics_row(name: str, found: Metrics) -> tuple[str, ...]:
    return (
        plain(name),
        number(found.n),
        *(with_interval(found, figure) for figure in ("accuracy", "balanced_accuracy", "macro_f1")),
        auc_with_interval(found, "macro_auc"),
        percent(found.ece),
        decimal(found.brier),
    )


def per_class(found: Metrics) -> pd.DataFrame:
    """Returns the metrics of each class against the rest, with their intervals."""
    figures = {"recall": "Sensitivity", "specificity": "Specificity", "precision": "Precision", "f1": "F1"}
    rows = [
        (
            CLASS_NAMES[label],
            number(each.support),
            *(with_interval(each, name) for name in figures),
            auc_with_interval(each, "auc"),
        )
        for label, each in found.per_class.items()
    ]
    return table(("Class", "Scans", *figures.values(), "AUC"), rows)


def per_class_short(found: Metrics) -> pd.DataFrame:
    """Returns the main metrics of each class without intervals, for half the width of a page."""
    rows = [
        (CLASS_NAMES[label], number(each.support), *map(percent, (each.recall, each.specificity, each.precision)))
        for label, each in found.per_class.items()
    ]
    return table(("Class", "Scans", "Sensitivity", "Specificity", "Precision"), rows)


def uncertainty(found: Metrics, elsewhere: Metrics | None = None) -> pd.DataFrame:
    """Returns how well the model's confidence, prediction sets, OOD score and verdicts hold on these test scans.

    `elsewhere` are the metrics of the same scans as if their hospitals were not known, where that makes a difference.
    """
    columns = {KNOWN: found, NOT_KNOWN: elsewhere} if elsewhere else {"Value": found}
    shown = {name: _uncertainty_figures(each) for name, each in columns.items()}
    return pd.DataFrame(shown).rename_axis("Measure")


def _uncertainty_figures(found: Metrics) -> dict[str, str]:
    return {
        "Expected calibration error (ECE); 0 % is perfect": percent(found.ece),
        "Brier score; 0 is perfect": decimal(found.brier),
        "Coverage of the 90 % prediction sets": percent(found.coverage),
        "Mean number of classes in a prediction set": decimal(found.set_size, 2),
        "Scans flagged as out of distribution (5 % on validation)": percent(found.unlike_training),
        **coverage_and_risk(found.selective),
    }


def coverage_and_risk(found: SelectiveMetrics | None) -> dict[str, str]:
    """Returns which fraction of scans gets an answer and how many answers are wrong; nothing for a run before verdicts."""
    if found is None or found.without_doubt is None or found.answered is None:
        return {}
    return {
        "Scans with an answer without doubt": percent(found.without_doubt.coverage),
        "Wrong among the answers without doubt": percent(found.without_doubt.risk),
        "Scans with an answer, with doubt or without": percent(found.answered.coverage),
        "Wrong among all answers": percent(found.answered.risk),
        "Scans without an answer": percent(1 - found.answered.coverage),
    }


def model_accuracies(baselines: BaselineRecord) -> pd.DataFrame:
    """Returns test accuracy of each model (row) on each hospital's test scans (column)."""
    names = list(baselines.models[0].hospitals)
    rows = [_accuracies_row(each, names) for each in baselines.models]
    return table(("Model", ALL_HOSPITALS, *map(plain, names)), rows)


def _accuracies_row(each: BaselineModel, names: Sequence[str]) -> tuple[str, ...]:
    tested = [each.test, *(each.hospitals[name] for name in names)]
    return (model_name(each.kind, each.trained_at, names), *(with_interval(found, "accuracy") for found in tested))


def differences(baselines: BaselineRecord) -> pd.DataFrame:
    """Returns accuracy of the federated model minus that of each other model on the same scans, in percentage points."""
    columns = ("Federated minus", "Test scans of", "Points", "95 % interval", "Interval excludes 0", "McNemar p")
    names = list(baselines.models[0].hospitals)
    return table(columns, [_difference_row(each, names) for each in baselines.differences])


def _difference_row(each: PairedDifference, names: Sequence[str]) -> tuple[str, ...]:
    return (
        model_name(each.kind, each.trained_at, names),
        plain(each.hospital) if each.hospital in names else ALL_HOSPITALS,
        points(each.difference),
        f"{points(each.low)} to {points(each.high)}",
        yes_no(excludes_zero(each)),
        p_value(each.mcnemar_p),
    )


def excludes_zero(each: PairedDifference) -> bool:
    """Returns whether the 95 % interval of the difference lies on one side of 0."""
    return each.low > 0 or each.high < 0
