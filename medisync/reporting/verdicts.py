"""What a prediction is worth, in words: its verdict and the reasons for it, the thresholds, and the prior used.

All text is plain: pages escape it.
"""

from collections.abc import Iterator, Mapping, Sequence

from medisync.reporting.formatting import CLASS_NAMES, limit, listed, percent, plain
from medisync.schemas import (
    LABELS,
    AnswerFigures,
    Calibration,
    Label,
    Metrics,
    Prediction,
    SelectiveMetrics,
    StoredModel,
    Verdict,
)

VERDICTS: Mapping[Verdict, str] = {"answer": "Answer", "doubt": "Answer with doubt", "no answer": "No answer"}

NO_ANSWER = VERDICTS["no answer"]

LIKE_VALIDATION = "on scans like the hospitals' validation scans"

OUT_OF_DISTRIBUTION = (
    "Out of distribution: this scan is less like the training scans than 95 % of the hospitals' validation scans are. What "
    "holds for their scans need not hold for it."
)

FROM_ELSEWHERE = "The hospital of this scan is not known: if it differs from the scans of the run's hospitals, more answers may be wrong."

PRIOR_HELP = (
    "A class of which a hospital has no training scans is made less probable for that hospital's scans: this is its own prior. "
    "Scans from elsewhere are predicted without a prior, and with thresholds of their own."
)

STATISTICS_HELP = (
    "Each hospital normalises scans by its own running statistics; scans from elsewhere are normalised by the mean of the "
    "hospitals' statistics."
)


def headline(found: Prediction) -> str:
    """Returns `Answer: glioma`, `Answer with doubt: glioma` or `No answer`; `Predicted: glioma` in a run before verdicts."""
    name = CLASS_NAMES[found.label].lower()
    if found.verdict is None:
        return f"Predicted: {name}"
    return NO_ANSWER if found.verdict == "no answer" else f"{VERDICTS[found.verdict]}: {name}"


def brief(found: Prediction) -> str:
    """Returns the verdict and its reasons for the cell of a table, such as `No answer: out of distribution`."""
    because = f": {', '.join(found.reasons)}" if found.reasons else ""
    return f"{VERDICTS[found.verdict]}{because}" if found.verdict else ""


def class_name(found: Prediction) -> str:
    """Returns the class for the cell of a table: `Glioma`, or `leaned to glioma` where there is no answer."""
    name = CLASS_NAMES[found.label]
    return f"leaned to {name.lower()}" if found.verdict == "no answer" else name


def in_short(found: Prediction) -> str:
    """Returns verdict, class, confidence and reasons: `Answer: glioma, 93.1 %`, `No answer (low confidence); leaned to ...`."""
    because = f" ({', '.join(found.reasons)})" if found.reasons else ""
    if found.verdict == "no answer":
        return f"{NO_ANSWER}{because}; leaned to {CLASS_NAMES[found.label].lower()}, {percent(found.confidence)}"
    return f"{headline(found)}, {percent(found.confidence)}{because}"


def leaning(found: Prediction) -> str:
    """Returns what the network leaned to where it gives no answer, as a sentence."""
    name, confidence = CLASS_NAMES[found.label].lower(), percent(found.confidence)
    return f"The network leaned to {name} (calibrated confidence {confidence}). This is not an answer."


def reasons(found: Prediction, fitted: Calibration, hospital: str = "") -> list[str]:
    """Returns why the verdict is what it is, one sentence each, with the risk that the thresholds were chosen for.

    `hospital` is where the scan was made, if that is a hospital of the run. None for a run before verdicts.
    """
    return list(_reasons(found, fitted, hospital)) if found.verdict else []


def _reasons(found: Prediction, fitted: Calibration, hospital: str) -> Iterator[str]:
    if "out of distribution" in found.reasons:
        yield OUT_OF_DISTRIBUTION
    if "low confidence" in found.reasons:
        yield _low(fitted.doubt_threshold or 0.0, fitted.doubt_risk)
    if "moderate confidence" in found.reasons:
        yield _moderate(fitted)
    elif found.verdict != "no answer":
        yield f"{_from(fitted.answer_threshold or 0.0, fitted.answer_risk)} {LIKE_VALIDATION}."
    if "image checks" in found.reasons:
        yield _review(found)
    if found.verdict != "no answer" and not hospital:
        yield FROM_ELSEWHERE


def _low(threshold: float, risk: float) -> str:
    if threshold > 1:
        return f"No confidence suffices for an answer: {_unbounded(risk)}."
    return (
        f"Low confidence: below {limit(threshold)}. Only from there on are at most {limit(risk)} of the answers wrong "
        f"{LIKE_VALIDATION}."
    )


def _moderate(fitted: Calibration) -> str:
    answer, doubt = fitted.answer_threshold or 0.0, fitted.doubt_threshold or 0.0
    any_answer = f"{_from(doubt, fitted.doubt_risk)} {LIKE_VALIDATION}"
    if answer > 1:
        return f"No confidence suffices for an answer without doubt: {_unbounded(fitted.answer_risk)}. {any_answer}."
    return f"Moderate confidence: below {limit(answer)}. {any_answer}; from {limit(answer)} on, at most {limit(fitted.answer_risk)}."


def _from(threshold: float, risk: float) -> str:
    return f"From a confidence of {limit(threshold)} on, at most {limit(risk)} of the answers are wrong"


def _unbounded(risk: float) -> str:
    return (
        f"even of the most confident answers on the hospitals' validation scans, more than {limit(risk)} may be wrong"
    )


def _review(found: Prediction) -> str:
    failed = [f"{check.name} ({check.detail})" for check in found.checks if not check.passed]
    return f"The image needs review: {listed(failed)}."


def prior(model: StoredModel, hospital: str) -> str:
    """Returns which prior was used for a scan; empty if the model has none for any hospital.

    A hospital that the run does not know has one that `medisync adapt` estimated.
    """
    if hospital and hospital not in model.distinguishes:
        return f"Prior of {plain(hospital, 60)}, estimated from scans of its own without labels."
    if not model.hospital_priors:
        return ""
    if not hospital:
        return "Prior: none; the scan may come from anywhere."
    factors = model.hospital_priors.get(hospital, {})
    lowered = [label for label in LABELS if factors.get(label, 1.0) < 1]
    owner = f"Prior of {plain(hospital, 60)}"
    if not lowered:
        return f"{owner}, which has training scans of all four classes: no class is made less probable."
    return f"{owner}, which has no training scans {_of(lowered)}: {_lowered(lowered, factors)}."


def _of(labels: Sequence[Label]) -> str:
    names = [CLASS_NAMES[label].lower() for label in labels if label != "notumor"]
    healthy = ["without a tumour"] if "notumor" in labels else []
    return listed([*([f"of {listed(names, 'or')}"] if names else []), *healthy], "or")


def _lowered(labels: Sequence[Label], factors: Mapping[Label, float]) -> str:
    names = listed([CLASS_NAMES[label].lower() for label in labels])
    said = "the probability" if len(labels) == 1 else "the probabilities"
    verb = "is" if len(labels) == 1 else "are"
    return f"{said} of {names} {verb} multiplied by {factors[labels[0]]:g}, then all are scaled to add up to 100 %"


def priors(model: StoredModel) -> list[str]:
    """Returns the prior of each hospital, one sentence each."""
    return [prior(model, name) for name in model.hospital_priors]


def origin_help(model: StoredModel) -> str:
    """Returns what it changes where a scan was made, for a model that distinguishes hospitals."""
    said = {PRIOR_HELP: model.hospital_priors, STATISTICS_HELP: model.statistics_of}
    return " ".join(sentence for sentence, applies in said.items() if applies)


def thresholds(model: StoredModel) -> str:
    """Returns from which confidence on there is an answer and how often it may be wrong; empty in a run before verdicts."""
    known, elsewhere = model.calibration, model.calibration_elsewhere
    if known.answer_threshold is None:
        return ""
    unknown = f" For scans whose hospital is not known: {_thresholds(elsewhere)}." if elsewhere else ""
    return (
        f"Thresholds, chosen on validation scans: {_thresholds(known)}.{unknown} They were chosen so that, {LIKE_VALIDATION}, at "
        f"most {limit(known.answer_risk)} of the answers without doubt and at most {limit(known.doubt_risk)} of all answers are "
        f"wrong; either is exceeded with a probability of at most {limit(known.risk_failure)}. Scans that are out of "
        "distribution get no answer whatever the confidence. Failed image checks, which make an answer doubtful, do not count "
        "in these figures."
    )


def _thresholds(fitted: Calibration) -> str:
    return f"an answer without doubt {_needs(fitted.answer_threshold)}, an answer with doubt {_needs(fitted.doubt_threshold)}"


def _needs(threshold: float | None) -> str:
    return (
        f"from a confidence of {threshold_value(threshold)} on" if threshold is not None and threshold <= 1 else "never"
    )


def threshold_value(threshold: float | None) -> str:
    """Returns a threshold of the confidence: `84 %`, or `none suffices`."""
    return "none suffices" if threshold is not None and threshold > 1 else limit(threshold)


def has_verdicts(found: Metrics) -> bool:
    """Returns whether these figures are of a run with verdicts, and say what is answered."""
    return bool(found.selective and found.selective.answered)


def what_is_answered(found: SelectiveMetrics | None) -> str:
    """Returns which fractions get an answer without doubt, with doubt and none, and how many are wrong; empty where unknown."""
    if found is None or found.without_doubt is None or found.answered is None:
        return ""
    sure, all_answers = found.without_doubt, found.answered
    wrong = "" if all_answers.risk is None else f" Of all answers, {percent(all_answers.risk)} are wrong."
    return (
        f"{percent(sure.coverage)} get an answer without doubt{_of_these(sure)}, "
        f"{percent(max(0.0, all_answers.coverage - sure.coverage))} an answer with doubt and "
        f"{percent(1 - all_answers.coverage)} none.{wrong}"
    )


def _of_these(figures: AnswerFigures) -> str:
    return "" if figures.risk is None else f" ({percent(figures.risk)} of these are wrong)"
