"""Verdicts, reasons, thresholds and priors in words."""

import factories
import pytest

from medisync.reporting import verdicts
from medisync.schemas import AnswerFigures, Calibration, ImageCheck, ModelMeta, Prediction, SelectiveMetrics

SPACE = "\N{NO-BREAK SPACE}"

FITTED = Calibration(
    temperature=1,
    distance_threshold=2,
    doubt_threshold=0.62,
    answer_threshold=0.84,
    answer_risk=0.04,
    doubt_risk=0.125,
    ece_before=None,
    ece_after=None,
)
NONE_SUFFICES = {"doubt_threshold": 1.1, "answer_threshold": 1.1}

SURE = Prediction(
    label="notumor",
    confidence=0.93,
    probabilities={"glioma": 0.03, "meningioma": 0.02, "pituitary": 0.02, "notumor": 0.93},
    plausible=["notumor"],
    distance=1,
    unlike_training=False,
    verdict="answer",
    checks=[ImageCheck(name="size", passed=True, detail="512 x 512 pixels")],
    notes=[],
)
CHECKS = [ImageCheck(name="size", passed=False, detail="90 x 90 pixels"), *SURE.checks]
DOUBTFUL = SURE.model_copy(
    update={"verdict": "doubt", "reasons": ["moderate confidence", "image checks"], "checks": CHECKS}
)
SILENT = SURE.model_copy(update={"verdict": "no answer", "reasons": ["out of distribution", "low confidence"]})
BEFORE = SURE.model_copy(update={"verdict": None})


@pytest.fixture
def judged() -> ModelMeta:
    return factories.meta(thresholds=(0.62, 0.84))


def said(found: Prediction, hospital: str = "AIIMS Delhi", **changes: float) -> list[str]:
    sentences = verdicts.reasons(found, FITTED.model_copy(update=changes), hospital)
    return [each.replace(SPACE, " ") for each in sentences]


def test_an_answer_names_its_class_and_no_answer_names_none() -> None:
    assert verdicts.headline(SURE) == "Answer: no tumour"
    assert verdicts.headline(DOUBTFUL) == "Answer with doubt: no tumour"
    assert verdicts.headline(SILENT) == "No answer"
    assert verdicts.headline(BEFORE) == "Predicted: no tumour"


def test_a_cell_of_a_table_has_the_verdict_with_its_reasons() -> None:
    assert verdicts.brief(SURE) == "Answer"
    assert verdicts.brief(DOUBTFUL) == "Answer with doubt: moderate confidence, image checks"
    assert verdicts.brief(SILENT) == "No answer: out of distribution, low confidence"
    assert verdicts.brief(BEFORE) == ""
    assert [verdicts.class_name(each) for each in (SURE, SILENT)] == ["No tumour", "leaned to no tumour"]


def test_a_line_has_verdict_class_confidence_and_reasons() -> None:
    assert verdicts.in_short(SURE) == f"Answer: no tumour, 93.0{SPACE}%"
    assert verdicts.in_short(DOUBTFUL) == (
        f"Answer with doubt: no tumour, 93.0{SPACE}% (moderate confidence, image checks)"
    )
    assert verdicts.in_short(SILENT) == (
        f"No answer (out of distribution, low confidence); leaned to no tumour, 93.0{SPACE}%"
    )


def test_an_answer_says_how_many_answers_of_its_confidence_may_be_wrong() -> None:
    risk = "From a confidence of 84 % on, at most 4 % of the answers are wrong on scans like the hospitals' validation scans."
    assert said(SURE) == [risk]
    assert said(SURE, hospital="") == [risk, verdicts.FROM_ELSEWHERE]


def test_every_doubt_has_its_sentence() -> None:
    assert said(DOUBTFUL) == [
        "Moderate confidence: below 84 %. From a confidence of 62 % on, at most 12.5 % of the answers are wrong on scans like "
        "the hospitals' validation scans; from 84 % on, at most 4 %.",
        "The image needs review: size (90 x 90 pixels).",
    ]
    blurred = DOUBTFUL.model_copy(update={"reasons": ["image checks"]})
    assert said(blurred) == [*said(SURE), "The image needs review: size (90 x 90 pixels)."]


def test_no_answer_says_why_and_makes_no_promise() -> None:
    assert said(SILENT, hospital="") == [
        verdicts.OUT_OF_DISTRIBUTION,
        "Low confidence: below 62 %. Only from there on are at most 12.5 % of the answers wrong on scans like the hospitals' "
        "validation scans.",
    ]


def test_a_threshold_that_no_confidence_reaches_is_not_given_as_a_percentage() -> None:
    assert said(SILENT, **NONE_SUFFICES)[1] == (
        "No confidence suffices for an answer: even of the most confident answers on the hospitals' validation scans, more than "
        "12.5 % may be wrong."
    )
    assert said(DOUBTFUL, answer_threshold=1.1)[0] == (
        "No confidence suffices for an answer without doubt: even of the most confident answers on the hospitals' validation "
        "scans, more than 4 % may be wrong. From a confidence of 62 % on, at most 12.5 % of the answers are wrong on scans like "
        "the hospitals' validation scans."
    )


def test_a_run_before_verdicts_has_no_reasons_and_no_thresholds() -> None:
    assert said(BEFORE) == []
    assert verdicts.thresholds(factories.meta()) == ""
    assert verdicts.what_is_answered(factories.meta().metrics.test.selective) == ""


def test_the_prior_of_a_hospital_names_the_classes_that_it_lacks(judged: ModelMeta) -> None:
    assert verdicts.prior(factories.meta(), "") == ""
    assert verdicts.prior(judged, "") == "Prior: none; the scan may come from anywhere."
    assert verdicts.prior(judged, "AIIMS Delhi") == (
        "Prior of AIIMS Delhi, which has training scans of all four classes: no class is made less probable."
    )
    assert verdicts.prior(judged, "Tata Memorial Mumbai") == (
        "Prior of Tata Memorial Mumbai, which has no training scans without a tumour: the probability of no tumour is multiplied "
        "by 0.05, then all are scaled to add up to 100 %."
    )
    lacking = judged.model_copy(update={"hospital_priors": {"X": {"glioma": 0.1, "pituitary": 0.1, "notumor": 0.1}}})
    assert verdicts.priors(lacking) == [
        "Prior of X, which has no training scans of glioma or pituitary tumour or without a tumour: the probabilities of glioma, "
        "pituitary tumour and no tumour are multiplied by 0.1, then all are scaled to add up to 100 %."
    ]


def test_help_on_the_origin_says_only_what_applies(judged: ModelMeta) -> None:
    both = judged.model_copy(update={"statistics_of": ["AIIMS Delhi"]})
    assert verdicts.origin_help(judged) == verdicts.PRIOR_HELP
    assert verdicts.origin_help(both) == f"{verdicts.PRIOR_HELP} {verdicts.STATISTICS_HELP}"
    assert verdicts.origin_help(both.model_copy(update={"hospital_priors": {}})) == verdicts.STATISTICS_HELP


def test_thresholds_are_said_for_known_and_unknown_hospitals(judged: ModelMeta) -> None:
    elsewhere = judged.calibration.model_copy(update=NONE_SUFFICES)
    text = verdicts.thresholds(judged.model_copy(update={"calibration_elsewhere": elsewhere})).replace(SPACE, " ")
    assert (
        ": an answer without doubt from a confidence of 84 % on, an answer with doubt from a confidence of 62 % on. For scans "
        "whose hospital is not known: an answer without doubt never, an answer with doubt never. "
    ) in text
    assert "at most 10 % of the answers without doubt and at most 20 % of all answers are wrong" in text
    assert "For scans whose hospital" not in verdicts.thresholds(
        judged.model_copy(update={"calibration_elsewhere": None})
    )


def test_a_sentence_says_which_fractions_are_answered() -> None:
    found = SelectiveMetrics(
        n=100,
        flagged=0.05,
        confidently_wrong=0.01,
        without_doubt=AnswerFigures(coverage=0.8, risk=0.04),
        answered=AnswerFigures(coverage=0.9, risk=0.07),
    )
    assert verdicts.what_is_answered(found).replace(SPACE, " ") == (
        "80.0 % get an answer without doubt (4.0 % of these are wrong), 10.0 % an answer with doubt and 10.0 % none. Of all "
        "answers, 7.0 % are wrong."
    )
    none = AnswerFigures(coverage=0, risk=None)
    silent = found.model_copy(update={"without_doubt": none, "answered": none})
    assert verdicts.what_is_answered(silent).replace(SPACE, " ") == (
        "0.0 % get an answer without doubt, 0.0 % an answer with doubt and 100.0 % none."
    )
