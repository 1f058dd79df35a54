"""`medisync ingest`: a hospital's dataset from the DICOM files of its PACS."""

import argparse
from pathlib import Path
from typing import Any

from medisync.cli.common import add, existing_workspace, shown

KEY = "pseudonyms.key"
"""The hospital's secret key, in the workspace unless `--secret` says otherwise."""


def add_ingest(commands: Any, shared: argparse.ArgumentParser) -> None:
    summary = "Make a dataset of de-identified slices from a folder of DICOM studies and a table of labels."
    command = add(commands, shared, "ingest", ingest, summary)
    command.add_argument("--dicom", required=True, type=Path, metavar="DIR", help="what the PACS exported; only read")
    help_labels = "CSV with the columns label and study, series or accession; optionally patient, first, last"
    command.add_argument("--labels", required=True, type=Path, metavar="FILE", help=help_labels)
    help_to = "the dataset, such as dataset/north in the workspace; an existing one gets what it lacks"
    command.add_argument("--to", required=True, type=Path, metavar="DIR", help=help_to)
    help_secret = f"the hospital's key for pseudonyms, made once (default: {KEY} in the workspace)"
    command.add_argument("--secret", type=Path, metavar="FILE", help=help_secret)
    help_rules = "which series are taken (default: medisync/ingest/series_rules.toml, which explains itself)"
    command.add_argument("--rules", type=Path, metavar="FILE", help=help_rules)


def ingest(options: argparse.Namespace) -> int:
    from medisync.ingest import pseudonyms, report, rules
    from medisync.ingest.ingestion import Request, ingest

    workspace = existing_workspace(options)
    request = Request(options.dicom, options.labels, workspace.root / options.to, options.rules or rules.DEFAULT)
    request.require_usable()
    key, made = pseudonyms.load_or_make(secret := options.secret or workspace.root / KEY)
    if made:
        print(f"made the secret key {shown(secret)}: keep a copy in a safe place, and give it to nobody")
    print("\n".join(report.lines(ingest(request, key))))
    print(f"dataset: {shown(request.to)}; every file and line that was left out: {shown(request.report)}")
    return 0
