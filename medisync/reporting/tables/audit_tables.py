"""What the audit found -> headline figures and tables; no streamlit, no torch."""

import pandas as pd
from pandas.io.formats.style import Styler

from medisync.reporting.formatting import CLASS_NAMES, escape, plain, sentence
from medisync.reporting.tables.metric_tables import Headline, style
from medisync.schemas import AuditRecord, CopyPair, LabelConflict


def audit_headlines(audit: AuditRecord) -> list[Headline]:
    found = audit.hospitals.values()
    figures = [
        ("Usable", sum(h.total for h in found), "Scans that can be decoded and whose class is known."),
        ("Unresolved", sum(h.unresolved for h in found), "Scans in folders that no class map names: left out."),
        ("Unreadable", sum(h.unreadable for h in found), "Files that claim to be images and are not: left out."),
        ("Quarantined", sum(h.quarantined for h in found), "The same slice under two labels: all copies left out."),
        ("Copies", sum(h.exact_copies + h.near_copies for h in found), "Repeats of a slice inside one hospital."),
    ]
    return [Headline(label, f"{number:,}", help=text) for label, number, text in figures]


def audit_hospitals(audit: AuditRecord) -> Styler:
    return style(
        {
            "Hospital": escape(name),
            "Usable": found.total,
            "Unresolved": found.unresolved,
            "Unreadable": found.unreadable,
            "Quarantined": found.quarantined,
            "No image": sum(found.skipped.values()),
            "Exact copies": found.exact_copies,
            "Near copies": found.near_copies,
            "Patients known": found.patients or None,
        }
        for name, found in audit.hospitals.items()
    )


def folders(audit: AuditRecord) -> Styler:
    """Every folder and the class it stands for; unresolved ones first."""
    rows = [
        {
            "Hospital": escape(name),
            "Folder": escape(folder.name),
            "Class": CLASS_NAMES[folder.label] if folder.label else "unresolved, left out",
            "Images": folder.images,
        }
        for name, found in audit.hospitals.items()
        for folder in sorted(found.folders, key=lambda folder: folder.label is not None)
    ]
    return style(rows, ["Hospital", "Folder", "Class", "Images"])


def notes(audit: AuditRecord) -> list[tuple[str, str]]:
    """(hospital, note), as Markdown."""
    return [(escape(name), sentence(note)) for name, found in audit.hospitals.items() for note in found.notes]


def left_out(audit: AuditRecord) -> pd.DataFrame:
    """Every image that the run could not use, with the reason; plain text, for a grid that reads no Markdown."""
    rows = [
        (plain(image.hospital), plain(image.path), image.status, plain(image.reason))
        for image in audit.images
        if image.status != "ok"
    ]
    return pd.DataFrame(rows, columns=["Hospital", "File", "Status", "Reason"])


def copies(audit: AuditRecord) -> pd.DataFrame:
    """Some pairs that show one slice."""
    rows = [
        (plain(pair.first), plain(pair.second), round(pair.correlation, 4), "yes" if pair.mirrored else "no")
        for pair in audit.examples
    ]
    return pd.DataFrame(rows, columns=["First", "Second", "Correlation", "Mirrored"])


def pair_name(pair: CopyPair) -> str:
    """Two files that show one slice, for a list to choose from."""
    return f"{plain(pair.first, 60)}  =  {plain(pair.second, 60)}{' (mirrored)' if pair.mirrored else ''}"


def pair_caption(pair: CopyPair) -> str:
    """How alike the two pictures are, as Markdown."""
    mirrored = ", once the second is mirrored back as it is here" if pair.mirrored else ""
    return f"Fine detail correlates by {pair.correlation:.4f}{mirrored}. 1 is the same picture."


def conflict_name(conflict: LabelConflict) -> str:
    """The labels that one slice goes under, and its first file."""
    names = " and ".join(dict.fromkeys(CLASS_NAMES[label].lower() for label in conflict.labels))
    return f"{names}: {plain(conflict.paths[0], 60)}"
