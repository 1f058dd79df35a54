"""The verdict on a prediction: an answer, an answer with doubt, or no answer, and why.

No answer is given for a scan that is out of distribution, or where the confidence is so low that too many answers would be
wrong; `evaluation.calibration` chooses the thresholds on validation images, for a stated risk.
"""

from collections.abc import Sequence

from medisync.schemas import Calibration, ImageCheck, Prediction, Verdict, VerdictReason

Judgement = tuple[Verdict | None, list[VerdictReason]]
"""A verdict, None where there are no thresholds, and its reasons."""


def judge(fitted: Calibration, *, confidence: float, flagged: bool) -> Judgement:
    """The verdict on a prediction of this confidence, and its reasons; `flagged` scans are out of distribution.

    None without thresholds, of a run before there were verdicts.
    """
    if fitted.doubt_threshold is None or fitted.answer_threshold is None:
        return None, []
    reasons: list[VerdictReason] = ["out of distribution"] if flagged else []
    if confidence < fitted.doubt_threshold:
        reasons.append("low confidence")
    if reasons:
        return "no answer", reasons
    if confidence < fitted.answer_threshold:
        return "doubt", ["moderate confidence"]
    return "answer", []


def at_most_doubt(adapted: Judgement, alone: Judgement) -> Judgement:
    """The verdict under a hospital's adaptation, no answer without doubt unless the model alone gives the same one.

    The thresholds hold for the model alone: nobody knows how often it is wrong at that hospital.
    """
    return ("doubt", alone[1]) if adapted[0] == "answer" != alone[0] else adapted


def with_checks(prediction: Prediction, checks: Sequence[ImageCheck]) -> Prediction:
    """The prediction with these checks of its image; a failed one makes an answer an answer with doubt."""
    update: dict[str, object] = {"checks": list(checks)}
    if not all(check.passed for check in checks) and prediction.verdict in ("answer", "doubt"):
        update |= {"verdict": "doubt", "reasons": [*prediction.reasons, "image checks"]}
    return prediction.model_copy(update=update)
