"""Labels, logits and totals of a few images, for the tests of this folder."""

import numpy as np

from medisync.evaluation.totals import Totals, tally


def logits_for(predicted: list[int], margin: float = 10.0) -> np.ndarray:
    return margin * np.eye(4)[predicted]


def totals_of(labels: list[int], logits: np.ndarray, groups: list[int] | None = None, **options: object) -> Totals:
    grouped = np.array(groups or range(len(labels)), np.int64)
    return tally(np.array(labels, np.int64), logits, grouped, **options)  # type: ignore[arg-type]
