"""Summaries of an audit: each hospital's figures, overlaps between hospitals, and example pairs to look at."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from medisync.config import Hospital
from medisync.data.discovery import HospitalFiles
from medisync.data.fingerprints import Entry
from medisync.data.near_duplicates import Pair
from medisync.schemas import LABELS, AuditedImage, CopyPair, HospitalAudit, Overlap

FREQUENT_SIZES = 10
EXAMPLES = 24


def summarise(
    hospital: Hospital, listed: HospitalFiles, images: Sequence[AuditedImage], distinct_pixels: int
) -> HospitalAudit:
    """Counts the images of one hospital; `distinct_pixels` is how many of the readable ones differ in their pixels."""
    status = Counter(image.status for image in images)
    usable = [image for image in images if image.status == "ok"]
    readable = [image for image in images if image.slice is not None]
    labels = Counter(image.label for image in usable)
    return HospitalAudit(
        path=hospital.path,
        folders=listed.folders,
        class_distribution={label: labels[label] for label in LABELS},
        total=len(usable),
        unresolved=status["unresolved"],
        unreadable=status["unreadable"],
        quarantined=status["quarantined"],
        skipped=dict(listed.skipped),
        sizes=_most_frequent(f"{image.width}x{image.height}" for image in readable),
        modes=_most_frequent(image.mode for image in readable),
        patients=len({image.patient for image in usable if image.patient is not None}),
        exact_copies=len(readable) - distinct_pixels,
        near_copies=distinct_pixels - len({image.slice for image in readable}),
        notes=[*listed.notes, *_conversions(readable), *_patients_of_two_classes(usable)],
        warnings=[*listed.warnings, *_unknown_patients(listed, usable)],
        with_patient=sum(image.patient is not None for image in usable),
    )


def _most_frequent(values: Iterable[str]) -> dict[str, int]:
    counted = Counter(values)
    frequent = dict(counted.most_common(FREQUENT_SIZES))
    others = counted.total() - sum(frequent.values())
    return frequent | {"other": others} if others else frequent


def _conversions(images: Sequence[AuditedImage]) -> list[str]:
    counted = Counter(note for image in images for note in image.notes)
    return [f"{count} images: {note}" for note, count in counted.most_common()]


def _unknown_patients(listed: HospitalFiles, usable: Sequence[AuditedImage]) -> list[str]:
    """Says how many images could stand in another split than other slices of their patient."""
    known = sum(image.patient is not None for image in usable)
    if known == len(usable):
        return []
    consequence = "may be in several splits, unless they are near-duplicates"
    if not known:
        return [f"no patient is known: slices of one patient {consequence}"]
    source = (
        "the patient list covers" if any(file.patient for file in listed.files) else "DICOM headers name the patient of"
    )
    return [
        f"{source} {known:,} of {len(usable):,} usable images; slices of one patient among the others {consequence}"
    ]


def _patients_of_two_classes(images: Sequence[AuditedImage]) -> list[str]:
    labels: dict[str, set[str]] = defaultdict(set)
    for image in images:
        if image.patient is not None and image.label is not None:
            labels[image.patient].add(image.label)
    return [
        f"patient {patient} has images of {' and '.join(sorted(several))}"
        for patient, several in labels.items()
        if len(several) > 1
    ]


def overlaps(images: Sequence[AuditedImage]) -> list[Overlap]:
    """Counts, for each ordered pair of hospitals, the images of one that show a slice of the other; omits zeros."""
    owners: dict[int, set[str]] = defaultdict(set)
    for image in images:
        if image.slice is not None:
            owners[image.slice].add(image.hospital)
    counted = Counter(
        (image.hospital, other)
        for image in images
        if image.slice is not None
        for other in sorted(owners[image.slice] - {image.hospital})
    )
    return [Overlap(hospital=hospital, other=other, images=count) for (hospital, other), count in counted.items()]


def examples(images: Sequence[Entry], pairs: Sequence[Pair]) -> list[CopyPair]:
    """Samples pairs from the highest correlation to the lowest, half of them across hospitals.

    Pairs of the same pixels are omitted: there is nothing to check by eye.
    """
    near = sorted((pair for pair in pairs if pair.correlation < 1), key=lambda pair: -pair.correlation)
    across = [pair for pair in near if images[pair.first].hospital != images[pair.second].hospital]
    inside = [pair for pair in near if images[pair.first].hospital == images[pair.second].hospital]
    chosen = [*_evenly_spaced(across, EXAMPLES // 2), *_evenly_spaced(inside, EXAMPLES // 2)]
    return [
        CopyPair(
            first=images[pair.first].file.path,
            second=images[pair.second].file.path,
            correlation=round(pair.correlation, 4),
            mirrored=pair.mirrored,
        )
        for pair in chosen
    ]


def _evenly_spaced(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """Returns at most `count` of the pairs at even distances, the first and the last among them."""
    if len(pairs) <= count:
        return list(pairs)
    return [pairs[round(index * (len(pairs) - 1) / (count - 1))] for index in range(count)]
