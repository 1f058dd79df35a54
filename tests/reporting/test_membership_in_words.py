"""What is said of attacks on a model, and when it is said first."""

import factories
import pytest

from medisync.reporting import membership
from medisync.reporting.charts import membership_inference
from medisync.schemas import MembershipRecord

SPACE = "\N{NO-BREAK SPACE}"


def spaced(text: str) -> str:
    return text.replace(SPACE, " ")


def test_the_strongest_attack_is_the_one_that_is_named() -> None:
    said = spaced(membership.summary(factories.membership()))
    assert said == (
        "An attacker who knows a scan, its class and what the model and the other hospitals' own models say of it tells "
        "training scans from others with AUC 0.560 (0.540 to 0.580); with all scans of a group, 0.550 (0.530 to 0.570); 0.5 "
        "is chance. By group it is worst at NIMHANS Bengaluru: 0.580 (0.560 to 0.600). Not attacked: Tata Memorial "
        "Mumbai, because there are no training images or no test images."
    )


def test_attacks_without_references_say_so() -> None:
    full = factories.membership()
    own = full.model_copy(
        update={"attacks": [each for each in full.attacks if each.attack == "loss"], "references": {}}
    )
    said = membership.summary(own)
    assert "what the model says of it tells" in said
    assert "no attack with reference models" in said


def test_a_run_that_was_not_attacked_says_why() -> None:
    apart = MembershipRecord(not_attacked={"A": "its images stay there", "B": "its images stay there"})
    assert membership.summary(apart) == "Not attacked: A and B, because its images stay there."
    assert membership.summary(None) == membership.NOT_RECORDED
    assert membership.warning(apart) == membership.warning(None) == ""
    assert membership_inference.areas(apart).figure.data[0].x == ()


@pytest.mark.parametrize(
    ("overall", "worst", "named"),
    [
        (0.54, 0.58, []),
        (0.541, 0.58, ["0.541 (0.521 to 0.561) at all hospitals together, where the interval should end by 0.56"]),
        (0.54, 0.581, ["0.581 (0.561 to 0.601) at NIMHANS Bengaluru, where the interval should end by 0.60"]),
        (0.55, 0.6, ["all hospitals together", "NIMHANS Bengaluru"]),
    ],
    ids=["at the limits", "overall", "worst hospital", "both"],
)
def test_what_exceeds_the_aims_is_a_warning(overall: float, worst: float, named: list[str]) -> None:
    said = spaced(membership.warning(factories.membership(overall, worst)))
    assert bool(said) == bool(named)
    assert said.count("should end by") == len(named)
    assert all(each in said for each in named)


def test_the_table_has_a_row_for_each_attack_on_each_set_of_scans() -> None:
    table = membership.attacks(factories.membership())
    assert table.index.tolist() == ["All hospitals"] * 2 + ["AIIMS Delhi"] * 2 + ["NIMHANS Bengaluru"] * 2
    assert table["Attack"].tolist() == ["Loss", "Reference models"] * 3
    first = [spaced(cell) for cell in table.iloc[1]]
    assert first == [
        "Reference models",
        "700 / 150",
        "700 / 150",
        "0.560 (0.540 to 0.580)",
        "0.550 (0.530 to 0.570)",
        "3.0 %",
        "3.0 %",
    ]
    assert [spaced(name) for name in table.columns[-2:]] == [
        "Scans found at 1.0 % false positives",
        "Groups found at 1.0 % false positives",
    ]


def test_the_chart_shows_both_levels_beside_chance() -> None:
    chart = membership_inference.areas(factories.membership())
    scans, groups = chart.figure.data
    assert list(scans.x) == pytest.approx([0.56, 0.54, 0.6])
    assert list(groups.x) == pytest.approx([0.55, 0.51, 0.58])
    assert list(groups.error_x.array) == pytest.approx([0.02] * 3)
    assert [line.x0 for line in chart.figure.layout.shapes] == [0.5]
    low, high = chart.figure.layout.xaxis.range
    assert low < 0.5 < 0.62 < high
    assert "0.550 (0.530 to 0.570)" in spaced(chart.title)
    assert "NIMHANS Bengaluru 0.580" in chart.alt
