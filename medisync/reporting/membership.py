"""Membership inference against the global model: its record -> one table, and sentences for card, notebook and dashboard."""

from collections.abc import Iterator, Mapping

import pandas as pd

from medisync.reporting.formatting import NO_VALUE, area, decimal, escape, listed, number, percent, scope_name
from medisync.reporting.tables import table
from medisync.schemas import AttackKind, AttackLevel, MembershipAttack, MembershipRecord

LIMIT, LIMIT_OF_A_HOSPITAL = 0.56, 0.60
"""Upper ends of the intervals of areas at group level that this project aims at: all hospitals together, and each of them."""

ATTACKS: Mapping[AttackKind, str] = {"loss": "Loss", "margin": "Margin", "reference": "Reference models"}

KNOWS: Mapping[AttackKind, str] = {
    "loss": "knows a scan, its class and what the model says of it",
    "margin": "knows a scan, its class and what the model says of it",
    "reference": "knows a scan, its class and what the model and the other hospitals' own models say of it",
}

CHANCE = "0.5 is chance"

METHOD = (
    "Members are training scans, non-members test scans of the same hospital, weighted to the same mix of classes; a group "
    "scores the mean of its scans. Intervals are over groups. The attacks are thresholds on the loss, on the margin of the "
    "true class and on the ratio to what other hospitals' own models expect (RMIA). They run in the simulation only, where "
    "single scores are at hand. A better attack may find more: these are lower bounds of what the model gives away."
)

NOT_RECORDED = "This run was not attacked: what its model gives away about single training scans was not measured."


def scopes(record: MembershipRecord) -> list[str | None]:
    """Returns what was attacked: None for all hospitals together, then the hospitals."""
    return list(dict.fromkeys(each.hospital for each in record.attacks))


def strongest(record: MembershipRecord, level: AttackLevel, hospital: str | None = None) -> MembershipAttack | None:
    """Returns the attack with the largest area on a hospital's scans, or on all; None if there was none."""
    found = [each for each in record.attacks if (each.level, each.hospital) == (level, hospital)]
    return max(found, key=lambda each: each.auc, default=None)


def worst_hospital(record: MembershipRecord) -> MembershipAttack | None:
    """Returns the strongest attack on groups of the hospital where its upper bound is highest; None if there was none."""
    found = [strongest(record, "group", hospital) for hospital in scopes(record) if hospital is not None]
    return max(filter(None, found), key=_upper, default=None)


def _upper(attack: MembershipAttack) -> float:
    return attack.interval.high if attack.interval else attack.auc


def attacks(record: MembershipRecord) -> pd.DataFrame:
    """Returns the areas of every attack at both levels, and the members found at fixed rates of false positives."""
    rates = sorted({rate.false_positive_rate for each in record.attacks for rate in each.rates}, reverse=True)
    found = [f"{unit} found at {percent(rate)} false positives" for rate in rates for unit in ("Scans", "Groups")]
    head = ("Training scans of", "Attack", "Scans", "Groups", "AUC, scans", "AUC, groups", *found)
    rows = [
        _row(record, hospital, kind, rates)
        for hospital in scopes(record)
        for kind in ATTACKS
        if _find(record, hospital, kind, "image")
    ]
    return table(head, rows)


def _row(record: MembershipRecord, hospital: str | None, kind: AttackKind, rates: list[float]) -> tuple[str, ...]:
    both = [_find(record, hospital, kind, level) for level in _LEVELS]
    return (
        scope_name(hospital),
        ATTACKS[kind],
        *(f"{number(each.members)} / {number(each.non_members)}" if each else NO_VALUE for each in both),
        *(area(each.auc, each.interval) if each else NO_VALUE for each in both),
        *(_detected(each, rate) for rate in rates for each in both),
    )


_LEVELS: tuple[AttackLevel, ...] = ("image", "group")


def _find(
    record: MembershipRecord, hospital: str | None, kind: AttackKind, level: AttackLevel
) -> MembershipAttack | None:
    wanted = (hospital, kind, level)
    return next((each for each in record.attacks if (each.hospital, each.attack, each.level) == wanted), None)


def _detected(attack: MembershipAttack | None, false_positive_rate: float) -> str:
    for rate in attack.rates if attack else ():
        if rate.false_positive_rate == false_positive_rate:
            shown, between = percent(rate.true_positive_rate), rate.interval
            return f"{shown} ({100 * between.low:.1f} to {100 * between.high:.1f})" if between else shown
    return NO_VALUE


def summary(record: MembershipRecord | None) -> str:
    """Returns how well the strongest attack tells training scans from others, where it does best, and what was not attacked."""
    return " ".join(_said(record)) if record else NOT_RECORDED


def _said(record: MembershipRecord) -> Iterator[str]:
    image, group, worst = strongest(record, "image"), strongest(record, "group"), worst_hospital(record)
    if image and group:
        yield (
            f"An attacker who {KNOWS[image.attack]} tells training scans from others with AUC "
            f"{area(image.auc, image.interval)}; with all scans of a group, {area(group.auc, group.interval)}; {CHANCE}."
        )
    if worst and worst.hospital and len(scopes(record)) > 2:
        yield f"By group it is worst at {escape(worst.hospital)}: {area(worst.auc, worst.interval)}."
    for reason in dict.fromkeys(record.not_attacked.values()):
        names = [escape(name) for name, why in record.not_attacked.items() if why == reason]
        yield f"Not attacked: {listed(names)}, because {reason}."
    if not record.references and record.attacks:
        yield "The run has no models of single hospitals, so there was no attack with reference models."


def warning(record: MembershipRecord | None) -> str:
    """Returns where training scans may be told from others better than this project aims at; empty if nowhere, or not attacked."""
    if record is None:
        return ""
    overall, worst, beyond = strongest(record, "group"), worst_hospital(record), []
    if overall and _upper(overall) > LIMIT:
        beyond.append(_beyond(overall, "at all hospitals together", LIMIT))
    if worst and worst.hospital and _upper(worst) > LIMIT_OF_A_HOSPITAL:
        beyond.append(_beyond(worst, f"at {escape(worst.hospital)}", LIMIT_OF_A_HOSPITAL))
    if not beyond:
        return ""
    return (
        "**Membership.** An attacker may tell training scans from others better than this project aims at: AUC by group "
        f"{'; and '.join(beyond)}; {CHANCE}."
    )


def _beyond(attack: MembershipAttack, where: str, limit: float) -> str:
    return f"{area(attack.auc, attack.interval)} {where}, where the interval should end by {decimal(limit, 2)}"
