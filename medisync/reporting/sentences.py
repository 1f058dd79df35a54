"""Sentences about a run, as Markdown in which text from outside is escaped."""

from collections.abc import Iterable, Mapping, Sequence

from medisync.reporting.formatting import (
    CLASS_NAMES,
    count,
    decimal,
    duration,
    escape,
    listed,
    moment,
    number,
    percent,
    plain,
    sentence,
)
from medisync.reporting.tables import missing_classes
from medisync.reporting.verdicts import has_verdicts
from medisync.schemas import (
    SPLITS,
    AuditRecord,
    CopyPair,
    DatasetStats,
    ExternalAudit,
    ExternalEvaluation,
    HistoryEntry,
    HospitalAudit,
    LabelConflict,
    Metrics,
    ModelMeta,
    Progress,
    Refusal,
    RunRecord,
    SelectiveMetrics,
    Transport,
)

TRANSPORTS: Mapping[Transport, str] = {
    "in one process": "all hospitals simulated in one process",
    "over the network": "one process per hospital, over a network",
}


def run_summary(run: RunRecord, meta: ModelMeta) -> str:
    """Returns what a run trained, on what and when."""
    scans = sum(stats.total for stats in meta.datasets.values())
    return (
        f"A ResNet18 trained by federated learning across **{count(len(meta.datasets), 'simulated hospital')}** on "
        f"**{count(scans, 'scan')}** ({meta.image_size} × {meta.image_size} pixels; {TRANSPORTS[run.transport]}). "
        f"Round **{meta.best_epoch} of {meta.num_epochs}** was selected by validation accuracy. "
        f"{escape(run.run)} finished {moment(run.finished_at)}."
    )


def test_set_note(meta: ModelMeta) -> str:
    """Returns which scans the figures are for, and what their intervals are."""
    return (
        f"{count(meta.metrics.test.n, 'test scan')}, held out from training, calibration and model selection within the "
        "run. Intervals are 95 % confidence intervals over groups of related scans."
    )


NO_EXTERNAL_SET = (
    "This run has no external test set: how the model does on scans from elsewhere was not measured. Its figures hold for "
    "scans like those of its hospitals."
)


AS_IF_FROM_ANYWHERE = (
    "Here the hospitals' test scans are predicted as if their hospital were not known, like the scans from outside."
)

OTHERS_ARE_WRONG = "scan of none of the classes is always wrong."


def no_answers(inside: Metrics) -> str:
    """Returns which scans get no answer, or which were flagged in a run before verdicts."""
    if has_verdicts(inside):
        reasons = "because it is out of distribution or the confidence is too low"
        return f"A scan gets no answer {reasons}. An answer for a {OTHERS_ARE_WRONG}"
    return (
        "Flagged scans are out of distribution: their predictions come with a warning not to rely on them. A prediction for a "
        f"{OTHERS_ARE_WRONG}"
    )


KNOWING_THE_HOSPITAL = (
    "Scans whose hospital is known are predicted under that hospital's own prior. “Hospital not known” has the same test scans "
    "predicted without a prior, like scans from anywhere, and with a calibration of their own."
)


def external_set(name: str, found: ExternalEvaluation) -> str:
    """Returns where an external dataset comes from, how many of its scans were evaluated and which were not."""
    images = sum(folder.images for folder in found.folders)
    origin = "; ".join(escape(each) for each in (found.source, found.licence) if each)
    excluded = ", ".join(f"{number(scans)} {escape(reason)}" for reason, scans in found.excluded.items() if scans)
    return (
        f"**{escape(name)}**{f' ({origin})' if origin else ''}: {count(images, 'scan')} evaluated"
        f"{f'; excluded: {excluded}' if excluded else ''}. Nothing was trained, calibrated or selected on them."
    )


def outside_in_short(external: Mapping[str, ExternalEvaluation]) -> str:
    """Returns how accurate and how often confidently wrong the model is on each external dataset, or that it has none."""
    return " ".join(_outside(name, found) for name, found in external.items()) or NO_EXTERNAL_SET


def _outside(name: str, found: ExternalEvaluation) -> str:
    known, other, said = found.known, found.other_selective, list[str]()
    if known:
        said.append(f"{percent(known.accuracy)} of {count(known.n, 'scan')} are given the right class")
    if known and known.selective:
        said.append(
            f"{percent(known.selective.confidently_wrong)} a wrong one with confidence over 90 % and no warning"
        )
        said += _unanswered(known.selective)
    if other:
        sure = percent(other.confidently_wrong)
        said.append(f"of {count(other.n, 'scan')} of none of the classes, {sure} are given one with such confidence")
        said += _unanswered(other)
    return f"Outside the hospitals, on {escape(name)}: {'; '.join(said)}."


def _unanswered(found: SelectiveMetrics) -> list[str]:
    return [f"{percent(1 - found.answered.coverage)} get no answer"] if found.answered else []


def hospital_summary(name: str, stats: DatasetStats) -> str:
    """Returns a hospital's name and specialty, the classes that it lacks and the sizes of its splits."""
    missing = missing_classes(stats)
    lacks = f" It has no scans of the class {listed(missing, 'or').lower()}." if missing else ""
    parts = {part: sum(stats.splits.get(part, {}).values()) for part in SPLITS}
    sizes = (
        f" {number(parts['train'])} training, {number(parts['val'])} validation and {number(parts['test'])} test scans."
    )
    specialty = f", {escape(stats.specialty)}" if stats.specialty else ""
    return f"**{escape(name)}** (simulated){specialty}.{lacks}{sizes if stats.splits else ''}"


def audit_warnings(audit: AuditRecord) -> list[str]:
    """Returns what was left out and what is not known about patients, one sentence each, with the name of hospital or dataset."""
    return [f"**{escape(name)}:** {sentence(each)}" for name, found in _audited(audit) for each in found.warnings]


def audit_notes(audit: AuditRecord) -> list[str]:
    """Returns the audit's notes, one sentence each, with the name of the hospital or the external dataset."""
    return [f"**{escape(name)}:** {sentence(note)}" for name, found in _audited(audit) for note in found.notes]


def _audited(audit: AuditRecord) -> list[tuple[str, HospitalAudit | ExternalAudit]]:
    return [*audit.hospitals.items(), *audit.external.items()]


def pair_name(pair: CopyPair) -> str:
    """Returns two file names that show the same slice, for a list to choose from."""
    return f"{plain(pair.first, 60)}  =  {plain(pair.second, 60)}{' (mirrored)' if pair.mirrored else ''}"


def pair_caption(pair: CopyPair) -> str:
    """Returns how similar the two images of a pair are."""
    mirrored = " The second image is mirrored; it is shown flipped back." if pair.mirrored else ""
    return f"Correlation of fine detail: {decimal(pair.correlation, 4)} (identical images have 1).{mirrored}"


def conflict_name(conflict: LabelConflict) -> str:
    """Returns the labels under which one slice occurs, and its first file."""
    names = listed(list(dict.fromkeys(CLASS_NAMES[label].lower() for label in conflict.labels)))
    return f"{names}: {plain(conflict.paths[0], 60)}"


def refusals(history: Sequence[HistoryEntry]) -> list[str]:
    """Returns one line per update that did not enter the average."""
    return list(_by_round((entry.epoch, entry.refused) for entry in history))


def remarks(history: Sequence[HistoryEntry]) -> list[str]:
    """Returns one line per remark on an update that did enter the average."""
    return list(_by_round((entry.epoch, entry.remarks) for entry in history))


def _by_round(found: Iterable[tuple[int, Sequence[Refusal]]]) -> Iterable[str]:
    for number_of_round, each in found:
        for said in each:
            yield f"**Round {number_of_round}, {escape(said.hospital)}:** {escape(said.reason)}"


def run_in_progress(run: str, progress: Progress) -> str:
    """Returns the round, the hospital, the speed and the time left of a run that is training."""
    rate = f", {progress.images_per_second:,.0f} images/s" if progress.images_per_second else ""
    left = f", {duration(progress.seconds_left)} left" if progress.seconds_left else ""
    at = f"round {progress.round} of {progress.rounds}" if progress.rounds else progress.stage
    return f"**{escape(run)}** is training: {at}, {escape(progress.hospital)}{rate}{left}"


def unreadable_run(run: str, reason: str, progress: Progress | None) -> str:
    """Returns why a run cannot be shown and, for an unfinished one, how far it got."""
    return f"**{escape(run)}:** {escape(reason)}{f' ({_last_seen(progress)})' if progress else ''}."


def _last_seen(progress: Progress) -> str:
    at = f", round {progress.round} of {progress.rounds}" if progress.rounds else ""
    when = f", {moment(progress.updated_at)}" if progress.updated_at else ""
    return f"last seen in {progress.stage}{at}{when}"
