"""An ingest from the first file of an export to the finished dataset and its report."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from medisync.data.parallel import map_files
from medisync.errors import ConfigError, DataError
from medisync.imaging.file_tree import LeftOut, counted, walk, why_not_a_file
from medisync.ingest import dataset, labels, report, rules
from medisync.ingest.dataset import Member
from medisync.ingest.headers import Image, Rejected, examine, refused
from medisync.ingest.labels import Assignment, Problem, SeriesLabel
from medisync.ingest.pseudonyms import Pseudonyms
from medisync.ingest.report import Outcome
from medisync.ingest.selection import Selection, Stack, select
from medisync.ingest.slices import Drawing, Place, Task, draw
from medisync.workspace.atomic import sweep_for, write_bytes

STACKS_AT_ONCE = 128
"""Stacks whose slices may wait in memory until they are written."""

TO_RENEW = "to change labels or patients, remove the dataset and make it anew"

UNLABELLED = Rejected("image without label in the table")
QUARANTINED = Rejected("image in quarantine")
REPEATED = Rejected("image in another direction than its series, or of a place that another shows")
NOT_PICKED = Rejected("slice of the outer two thirds")
NO_LESION = Rejected("slice without lesion, as the table says")
OTHER_LABEL = Rejected("image that the dataset has under another label", TO_RENEW)
OTHER_PATIENT = Rejected("image that the dataset has under another patient", TO_RENEW)

Reasons = dict[PurePosixPath, Rejected]
"""Why files are left out, by their paths in the folder of the export."""


@dataclass(frozen=True)
class Request:
    dicom: Path
    """The folder of the export."""
    labels: Path
    to: Path
    """The folder of the dataset."""
    rules: Path = rules.DEFAULT

    @property
    def report(self) -> Path:
        """Beside the dataset, whose folder holds scans only."""
        return self.to.parent / f"{self.to.name}-ingest.csv"

    def require_usable(self) -> None:
        """Raises ConfigError if there is no export, or if it and the dataset are not apart."""
        source, target = self.dicom.resolve(), self.to.resolve()
        if not source.is_dir():
            raise ConfigError(f"--dicom: {self.dicom} is no folder")
        if source.is_relative_to(target) or target.is_relative_to(source):
            raise ConfigError("--to: the dataset must lie outside the folder of the export, and not around it")


@dataclass(frozen=True)
class _Labelled:
    """A stack with its label, the pseudonym of its patient, and those of its slices."""

    stack: Stack
    label: SeriesLabel
    patient: str
    names: Mapping[Place, str]


@dataclass(frozen=True)
class _Stored:
    """What became of a stack."""

    used: Sequence[PurePosixPath] = field(repr=False)
    rejected: Reasons = field(repr=False)
    label: str
    patient: str
    added: int
    present: int
    problems: Sequence[Problem] = ()


def ingest(request: Request, pseudonyms: Pseudonyms) -> Outcome:
    """Writes the dataset and its report, and returns what became of every file.

    An existing dataset that was made with the same key gets what it lacks. Raises ConfigError for folders that cannot be
    used, and DataError if there is no slice to write: the report is there then, and no dataset.
    """
    request.require_usable()
    chosen, table = rules.read(request.rules), labels.read(request.labels)
    with dataset.locked(request.to):
        sweep_for(request.report)
        known = dataset.members(request.to, pseudonyms.check)
        paths, rejected = _list(request.dicom)
        images = [*_examined(request.dicom, paths, rejected)]
        selection = select(images, chosen)
        assignment = labels.assign(table, selection.series)
        labelled = [*_labelled(selection, assignment, pseudonyms)]
        rejected |= {**selection.rejected, **_unlabelled(selection, assignment)}
        stored = _store(request, labelled, known, pseudonyms)
        notes = [*table.notes, *_patient_notes(labelled)]
        outcome = _outcome(stored, rejected, assignment, len(table.rows), notes)
        write_bytes(request.report, report.table(outcome, request.dicom))
    if not known and not outcome.added:
        head = f"no slice to write, so there is no dataset; {request.report} lists every file that was left out"
        raise DataError("\n".join([head, *report.lines(outcome)]))
    return outcome


def _list(root: Path) -> tuple[list[PurePosixPath], Reasons]:
    """Returns the files below the folder, in the order of names, and why other entries are none."""
    left_out = LeftOut()
    paths: list[PurePosixPath] = []
    rejected: Reasons = {}
    for path in (folder / name for folder, names in walk(root, left_out) for name in names):
        if reason := why_not_a_file(root / path):
            rejected[path] = Rejected(reason)
        else:
            paths.append(path)
    rejected |= {PurePosixPath(name): Rejected(reason) for reason, names in left_out.names.items() for name in names}
    return paths, rejected


def _examined(root: Path, paths: Sequence[PurePosixPath], rejected: Reasons) -> Iterator[Image]:
    """Yields the images among the files, and adds the reasons of the others."""
    found = map_files(examine, [(root, path) for path in paths])
    for path, each in zip(paths, tqdm(found, total=len(paths), desc="headers", unit="files"), strict=True):
        if isinstance(each, Rejected):
            rejected[path] = each
        else:
            yield each


def _labelled(selection: Selection, assignment: Assignment, pseudonyms: Pseudonyms) -> Iterator[_Labelled]:
    for stack in selection.stacks:
        if label := assignment.labels.get(stack.series):
            names = {
                (file, frame): pseudonyms.name("image", image.instance, str(frame))
                for file, image in enumerate(stack.images)
                for frame in range(image.frames)
            }
            yield _Labelled(stack, label, _patient(stack, label, pseudonyms), names)


def _patient(stack: Stack, label: SeriesLabel, pseudonyms: Pseudonyms) -> str:
    """Names the patient: by the table where it says, else by PatientID, else by the study, which is of one patient."""
    if label.patient:
        return f"p{pseudonyms.name('patient', 'table', label.patient)}"
    if stack.patient:
        return f"p{pseudonyms.name('patient', 'header', stack.patient)}"
    return f"p{pseudonyms.name('patient', 'study', stack.series[0])}"


def _unlabelled(selection: Selection, assignment: Assignment) -> Reasons:
    return {
        image.path: QUARANTINED if stack.series in assignment.quarantined else UNLABELLED
        for stack in selection.stacks
        if stack.series not in assignment.labels
        for image in stack.images
    }


def _store(
    request: Request, labelled: Sequence[_Labelled], known: Mapping[str, Member], pseudonyms: Pseudonyms
) -> list[_Stored]:
    """Draws the stacks and writes the dataset, whole or not at all."""
    stored: list[_Stored] = []
    try:
        with dataset.written(request.to, pseudonyms.check) as staging:
            for each, drawing in _drawn(request.dicom, labelled, known):
                stored.append(_store_stack(each, drawing, known, staging))
    except dataset.EmptyError:
        pass  # the report says why
    return stored


def _drawn(
    root: Path, labelled: Sequence[_Labelled], known: Mapping[str, Member]
) -> Iterator[tuple[_Labelled, Drawing]]:
    with tqdm(total=len(labelled), desc="slices", unit="series") as bar:
        for start in range(0, len(labelled), STACKS_AT_ONCE):
            batch = labelled[start : start + STACKS_AT_ONCE]
            for each, drawing in zip(batch, map_files(draw, [_task(root, each, known) for each in batch]), strict=True):
                yield each, drawing
                bar.update()


def _task(root: Path, labelled: _Labelled, known: Mapping[str, Member]) -> Task:
    files = tuple(root / image.path for image in labelled.stack.images)
    return Task(
        files, labelled.label.slices, frozenset(place for place, name in labelled.names.items() if name in known)
    )


def _store_stack(
    labelled: _Labelled, drawing: Drawing, known: Mapping[str, Member], staging: dataset.Staging
) -> _Stored:
    label, patient, images = labelled.label, labelled.patient, labelled.stack.images
    if drawing.misses_lesion:
        problems = [Problem(line, "gives slices that are not in the folder") for line in label.lines]
        return _Stored([], {image.path: QUARANTINED for image in images}, label.label, patient, 0, 0, problems)
    reasons = _reasons(labelled, drawing)
    used: dict[PurePosixPath, None] = {}
    added = present = 0
    for drawn in drawing.slices:
        member = Member(label.label, labelled.stack.sequence, labelled.names[drawn.place], patient)
        path = images[drawn.place[0]].path
        if conflict := _conflict(member, known.get(member.image)):
            reasons[path] = conflict
            continue
        if drawn.png:
            staging.add(member, drawn.png)
        added, present = added + bool(drawn.png), present + (not drawn.png)
        used[path] = None
    rejected = {path: reason for path, reason in reasons.items() if path not in used}
    return _Stored(list(used), rejected, label.label, patient, added, present)


def _reasons(labelled: _Labelled, drawing: Drawing) -> Reasons:
    """Returns for each file of the stack why it is left out, if it is."""
    images = labelled.stack.images
    not_picked = NO_LESION if labelled.label.slices else NOT_PICKED
    reasons = {image.path: REPEATED if file in drawing.repeated else not_picked for file, image in enumerate(images)}
    return reasons | {images[file].path: refused("damaged image", reason) for file, reason in drawing.unreadable}


def _conflict(member: Member, before: Member | None) -> Rejected | None:
    if before is None or (before.label, before.patient) == (member.label, member.patient):
        return None
    return OTHER_LABEL if before.label != member.label else OTHER_PATIENT


def _patient_notes(labelled: Sequence[_Labelled]) -> Iterator[str]:
    """Yields what is doubtful about the patients of the labelled studies."""
    studies = {each.stack.series[0]: each for each in labelled}
    listed = sum(bool(each.label.patient) for each in studies.values())
    headers = {each.stack.patient for each in studies.values() if not each.label.patient}
    if 0 < listed < len(studies):
        yield (
            f"warning: the labels give a patient for {listed:,} of {len(studies):,} studies, and the headers for the others: "
            "a patient with both would count as two"
        )
    named: dict[str, set[str]] = defaultdict(set)
    for each in studies.values():
        named[each.stack.patient].add(each.label.patient)
    if len(named) > 1 and (doubtful := sum(len(names - {""}) > 1 for header, names in named.items() if header)):
        shown = counted(doubtful, "PatientID")
        yield f"warning: the labels give several patients for {shown} of the headers; they count as several"
    if listed == 0 and len(studies) > 1 and len(headers) == 1:
        whom = (
            "no PatientID, so that each counts as a patient"
            if headers == {""}
            else "one PatientID, and count as one patient"
        )
        yield f"warning: all {len(studies):,} studies have {whom}; give the column patient in the labels"


def _outcome(
    stored: Sequence[_Stored], rejected: Reasons, assignment: Assignment, lines: int, notes: Sequence[str]
) -> Outcome:
    reasons = {
        path: reason for part in (rejected, *(each.rejected for each in stored)) for path, reason in part.items()
    }
    used = {path for each in stored for path in each.used}
    added: Counter[str] = Counter()
    for each in stored:
        added[each.label] += each.added
    problems = {
        problem.line: problem for problem in [*(p for each in stored for p in each.problems), *assignment.problems]
    }
    return Outcome(
        files=len(used) + len(reasons),
        used=len(used),
        added={label: added[label] for label in labels.ALLOWED if added[label]},
        present=sum(each.present for each in stored),
        patients=len({each.patient for each in stored if each.used}),
        rejected=reasons,
        problems=[problems[line] for line in sorted(problems)],
        labelled_lines=lines,
        notes=list(notes),
    )
