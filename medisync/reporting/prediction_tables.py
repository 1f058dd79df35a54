"""Predictions for single scans: records -> tables, and sentences as Markdown."""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from medisync.reporting import verdicts
from medisync.reporting.formatting import CLASS_NAMES, NO_VALUE, count, number, percent, plain, sentence, yes_no
from medisync.reporting.tables import table
from medisync.schemas import LABELS, Label, Prediction

VERDICT = "Verdict"


def predictions(found: Sequence[tuple[str, Prediction | str, int, int]]) -> pd.DataFrame:
    """Returns one row per upload: (file name, prediction or the reason why there is none, slice shown, number of slices)."""
    columns = ("File", "Slice", VERDICT, "Class", "Confidence", "Out of distribution", "Note")
    rows = [(plain(name, 80), slice_place(*place), *_outcome(result)) for name, result, *place in found]
    return _if_judged(table(columns, rows), (result for _, result, *_ in found))


def slices(found: Mapping[int, Prediction | str]) -> pd.DataFrame:
    """Returns one row per slice of a volume, with the probability of each class."""
    columns = ("Slice", VERDICT, *CLASS_NAMES.values(), "Out of distribution", "Note")
    return _if_judged(table(columns, [_slice_row(number, result) for number, result in found.items()]), found.values())


def _if_judged(found: pd.DataFrame, results: Iterable[Prediction | str]) -> pd.DataFrame:
    """Returns the table without its verdicts if no prediction has one: they are of a run before there were verdicts."""
    judged = any(isinstance(result, Prediction) and result.verdict for result in results)
    return found if judged else found.drop(columns=VERDICT)


def _slice_row(slice_number: int, result: Prediction | str) -> tuple[str, ...]:
    if isinstance(result, str):
        return number(slice_number), *([NO_VALUE] * (len(LABELS) + 2)), plain(result)
    probabilities = [percent(result.probabilities[label]) for label in CLASS_NAMES]
    return number(slice_number), verdicts.brief(result), *probabilities, yes_no(result.unlike_training), ""


def slice_place(slice_number: int, slices: int) -> str:
    """Returns `11 of 20`; a dash for an image."""
    return f"{number(slice_number)} of {number(slices)}" if slices > 1 else NO_VALUE


def with_thumbnails(found: pd.DataFrame, thumbnails: Sequence[str]) -> pd.DataFrame:
    """Returns a table of predictions with a first column of pictures, given as data addresses."""
    return found.reset_index().set_index(pd.Index(thumbnails, name="Scan"))


def _outcome(result: Prediction | str) -> tuple[str, ...]:
    if isinstance(result, str):
        return *([NO_VALUE] * 4), plain(result)
    return *_answer(result), plain("; ".join(result.notes))


def _answer(found: Prediction) -> tuple[str, ...]:
    return verdicts.brief(found), verdicts.class_name(found), percent(found.confidence), yes_no(found.unlike_training)


def by_model(federated: Prediction, local: Mapping[str, Prediction]) -> pd.DataFrame:
    """Returns the federated model's prediction beside that of each hospital's local model."""
    named = {"Federated": federated, **{f"{plain(name, 40)} alone": each for name, each in local.items()}}
    columns = ("Model", VERDICT, "Class", "Confidence", "Out of distribution")
    return _if_judged(table(columns, [(name, *_answer(each)) for name, each in named.items()]), named.values())


def agreement(federated: Prediction, local: Mapping[str, Prediction]) -> str:
    """Returns how many of the local models predict the same class, as a sentence."""
    agreed = sum(each.label == federated.label for each in local.values())
    verb = "lean" if federated.verdict == "no answer" else "predict"
    to = " to" if federated.verdict == "no answer" else ""
    return f"{agreed} of {count(len(local), 'local model')} {verb}{'s' if len(local) == 1 else ''}{to} the same class"


def notes(prediction: Prediction) -> str:
    """Returns the notes on how the image was read, as Markdown: a sentence, or a list of several."""
    said = [sentence(note) for note in prediction.notes]
    return "\n".join(f"- {each}" for each in said) if len(said) > 1 else "".join(said)


def image_checks(prediction: Prediction) -> pd.DataFrame:
    """Returns the checks of the image, their results and what was found."""
    rows = [
        (plain(check.name).capitalize(), "passed" if check.passed else "review", plain(check.detail))
        for check in prediction.checks
    ]
    return table(("Check", "Result", "Found"), rows)


def failed_checks(prediction: Prediction) -> int:
    return sum(not check.passed for check in prediction.checks)


def checks_summary(prediction: Prediction) -> str:
    """Returns how many checks of the image failed, as a sentence."""
    failed, made = failed_checks(prediction), len(prediction.checks)
    if not failed:
        return f"All {made} image checks passed"
    return f"{failed} of {count(made, 'image check')} {'needs' if failed == 1 else 'need'} review"


def mistake_caption(label: Label, prediction: Prediction) -> str:
    """Returns the true class of a scan and the wrong one that was predicted, as Markdown."""
    predicted = f"predicted **{CLASS_NAMES[prediction.label].lower()}**, {percent(prediction.confidence)}"
    flagged = ", flagged as out of distribution" if prediction.unlike_training else ""
    judged = f". {verdicts.brief(prediction)}" if prediction.verdict else flagged
    return f"**{CLASS_NAMES[label]}**, {predicted}{judged}"


def mistake_alt(label: Label, prediction: Prediction) -> str:
    """Returns the alternative text of a misclassified scan."""
    return f"A test scan of class {CLASS_NAMES[label].lower()}, predicted as {CLASS_NAMES[prediction.label].lower()}"


def mistakes_summary(found: Sequence[Prediction], shown: int) -> str:
    """Returns how many test scans were misclassified, how many of them get no answer and how many are shown, as a sentence."""
    if not found:
        return "No test scan was misclassified."
    silent = sum(each.verdict == "no answer" for each in found)
    unanswered = f", {number(silent)} of them without an answer" if silent else ""
    rest = f"; the {shown} with the highest confidence:" if len(found) > shown else ":"
    return f"{count(len(found), 'test scan')} {'was' if len(found) == 1 else 'were'} misclassified{unanswered}{rest}"
