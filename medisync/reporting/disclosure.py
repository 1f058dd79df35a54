"""What leaves a hospital: one list for docs/privacy.md and for the dashboard, which shows what is true for its run."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pandas as pd

from medisync.config import TrainingConfig
from medisync.reporting.tables import table
from medisync.schemas import RunRecord

COLUMNS = ("What leaves a hospital", "When", "Who sees it", "Coarsened by", "What can be learnt from it")

SETTING = "setting"
"""Key of a condition on where the hospitals trained; all other keys are parameters of training."""

SERVER, READERS = "the server", "the server, and whoever reads the run"

NOT_COVERED = (
    "Nothing in this table is covered by secure aggregation or by differential privacy: this program has neither. Over a "
    "network TLS protects it on its way; the server sees each hospital's contribution by itself."
)

SIMULATED = (
    "This run simulated its hospitals in one process, where nothing is hidden from whoever runs it. Over a network, this "
    "version of the program would send:"
)

NETWORKED = "With the settings of this run, this version of the program sends:"


@dataclass(frozen=True)
class Disclosure:
    """One kind of information that leaves a hospital."""

    what: str
    when: str
    seen_by: str
    coarsened_by: str
    learnt: str
    only_if: Mapping[str, str] = field(default_factory=dict)
    """Values of parameters, or of SETTING, without which it does not leave."""

    def row(self) -> tuple[str, ...]:
        return self.what, self.when, self.seen_by, self.coarsened_by, self.learnt


LEAVING = (
    Disclosure(
        "trained weights",
        "every round",
        "the server; the others see the aggregate",
        "averaging, for all but the server; with two hospitals, each can subtract its own",
        "membership and properties of the training scans; parts of scans, where a round takes few steps",
    ),
    Disclosure(
        "Adam's moments",
        "every round",
        "the server; the others see the aggregate",
        "averaging, as for weights",
        "the mean gradient of the round and its size, weight by weight: more direct than weights",
        {"adam_moments": "shared"},
    ),
    Disclosure(
        "BatchNorm's running statistics",
        "every round",
        "the server; the average is published",
        "averaging, as for weights",
        "brightness and contrast of the hospital's scans, as each channel sees them",
        {"normalisation": "averaged"},
    ),
    Disclosure(
        "BatchNorm's running statistics",
        "at the end",
        "everybody: published with the model, by hospital",
        "a mean over at most 512 training scans",
        "brightness and contrast of the hospital's scans, as each channel sees them",
        {"normalisation": "local"},
    ),
    Disclosure(
        "number of training scans, mean loss and accuracy, seconds",
        "every round",
        READERS,
        "four decimals",
        "how many scans there are, how well they are known, how fast the machine is",
    ),
    Disclosure(
        "number of validation scans, mean loss and accuracy",
        "every validation",
        READERS,
        "four decimals",
        "how many are right; from two evaluations that differ in one scan, that scan's loss",
    ),
    Disclosure(
        "sums over validation scans: confusion matrix, losses, histograms",
        "at the end",
        SERVER,
        "histogram cells, rounded sums",
        "a score of some scan, to the width of a cell, where a cell holds one",
    ),
    Disclosure(
        "sums over test scans: the same, and covariances over groups",
        "at the end",
        "the server; metrics by hospital and histograms over all hospitals are published",
        "histogram cells, rounded sums",
        "the same, and which cells occur together in a group",
    ),
    Disclosure(
        "counts, sums and outer products of features of training scans, by class",
        "at the end",
        "the server; the fitted distribution is published",
        "classes with fewer than three scans are left out",
        "mean and spread of the features of a class; narrowly, the features themselves where a class has few scans",
    ),
    Disclosure(
        "name, specialty, source, licence, version, numbers of scans by class and split, counts of the audit",
        "once, before training",
        READERS,
        "nothing",
        "how many patients with which tumour the hospital has, roughly; which classes it lacks",
        {SETTING: "over the network"},
    ),
    Disclosure(
        "paths, classes, groups and hashes of all scans, and the scans that the executed notebook shows",
        "in the run's folder",
        "whoever reads the run",
        "nothing",
        "which scans were used, and for what",
        {SETTING: "in one process"},
    ),
    Disclosure(
        "the model: averaged weights of the selected round, calibration, class priors of the hospitals",
        "published at the end",
        "everybody",
        "averaging over hospitals and rounds, half precision",
        "membership, as far as the attack on the model finds it; properties of the training scans",
    ),
)


def leaving(run: RunRecord) -> pd.DataFrame:
    """Returns what leaves a hospital with the settings of this run."""
    training = run.configuration.get("training")
    settings = {
        **TrainingConfig().model_dump(mode="json"),
        **(training if isinstance(training, dict) else {}),
        SETTING: run.transport,
    }
    return _table(each for each in LEAVING if all(settings.get(key) == value for key, value in each.only_if.items()))


def leaving_in_any_run() -> pd.DataFrame:
    """Returns everything that may leave a hospital, each with its condition, as docs/privacy.md has it."""
    return _table(
        Disclosure(f"{_condition(each)}{each.what}", each.when, each.seen_by, each.coarsened_by, each.learnt)
        for each in LEAVING
    )


def _table(found: Iterable[Disclosure]) -> pd.DataFrame:
    return table(COLUMNS, [each.row() for each in found])


def _condition(each: Disclosure) -> str:
    said = [value if key == SETTING else f'with `{key.upper()} = "{value}"`' for key, value in each.only_if.items()]
    return f"{', '.join(said)}: " if said else ""


def introduction(run: RunRecord) -> str:
    """Returns whether anything left a machine in this run, as the sentence before the table."""
    return SIMULATED if run.transport == "in one process" else NETWORKED
