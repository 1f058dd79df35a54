"""Verdicts, from thresholds and confidences that are given."""

import pytest

from medisync.inference.verdict import at_most_doubt, judge, with_checks
from medisync.schemas import Calibration, ImageCheck, Prediction, Verdict

FITTED = Calibration(
    temperature=1, distance_threshold=2, answer_threshold=0.8, doubt_threshold=0.5, ece_before=None, ece_after=None
)
BEFORE_VERDICTS = Calibration(temperature=1, distance_threshold=2, ece_before=None, ece_after=None)
PASSED, FAILED = (ImageCheck(name="size", passed=passed, detail="") for passed in (True, False))


def prediction(verdict: Verdict | None) -> Prediction:
    return Prediction(
        label="glioma",
        confidence=0.9,
        probabilities={"glioma": 0.9},
        plausible=["glioma"],
        distance=1,
        unlike_training=False,
        verdict=verdict,
        checks=[],
        notes=[],
    )


@pytest.mark.parametrize(
    ("confidence", "flagged", "verdict", "reasons"),
    [
        (0.8, False, "answer", []),
        (0.79, False, "doubt", ["moderate confidence"]),
        (0.5, False, "doubt", ["moderate confidence"]),
        (0.49, False, "no answer", ["low confidence"]),
        (0.99, True, "no answer", ["out of distribution"]),
        (0.3, True, "no answer", ["out of distribution", "low confidence"]),
    ],
)
def test_confidence_and_distance_decide(confidence: float, flagged: bool, verdict: str, reasons: list[str]) -> None:
    assert judge(FITTED, confidence=confidence, flagged=flagged) == (verdict, reasons)


def test_runs_before_verdicts_give_none() -> None:
    assert judge(BEFORE_VERDICTS, confidence=0.26, flagged=False) == (None, [])
    assert judge(BEFORE_VERDICTS, confidence=0.99, flagged=True) == (None, [])
    unjudged = with_checks(prediction(None), [FAILED])
    assert (unjudged.verdict, unjudged.reasons, unjudged.checks) == (None, [], [FAILED])


def test_a_failed_check_makes_an_answer_doubtful_but_no_answer_stays_none() -> None:
    assert with_checks(prediction("answer"), [PASSED, FAILED]).verdict == "doubt"
    assert with_checks(prediction("answer"), [PASSED, FAILED]).reasons == ["image checks"]
    assert with_checks(prediction("no answer"), [FAILED]).verdict == "no answer"
    passed = with_checks(prediction("answer"), [PASSED])
    assert (passed.verdict, passed.reasons, passed.checks) == ("answer", [], [PASSED])


def test_an_adaptation_brings_no_answer_without_doubt_of_its_own() -> None:
    answer, unsure, none = (
        judge(FITTED, confidence=confidence, flagged=flagged)
        for confidence, flagged in ((0.9, False), (0.6, False), (0.9, True))
    )
    assert at_most_doubt(answer, answer) == ("answer", [])
    assert at_most_doubt(answer, unsure) == ("doubt", ["moderate confidence"])
    assert at_most_doubt(answer, none) == ("doubt", ["out of distribution"])
    assert at_most_doubt(unsure, answer) == unsure
    assert at_most_doubt(none, answer) == none
