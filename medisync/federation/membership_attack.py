"""Membership inference against the global model, where all hospitals' images are in one process.

Members are a hospital's training images and non-members its test images; validation images are neither, because the
model was selected on them. References are the models that other hospitals trained alone, which have seen none of its
images unless hospitals hold copies of each other's. Like the baselines, the attack exists in a simulation only.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medisync.config import TrainingConfig
from medisync.evaluation.membership import (
    Scored,
    by_group,
    loss_scores,
    margin_scores,
    measure,
    reference_scores,
)
from medisync.evaluation.totals import Floats, Ints
from medisync.model.device import Device, select_device
from medisync.model.weights import State
from medisync.schemas import LABELS, AttackKind, AttackLevel, MembershipAttack, MembershipRecord, Split
from medisync.training.dataset import HospitalData
from medisync.training.local import predict_images, under_own_prior
from medisync.training.seeds import derive_seed

ATTACKED: tuple[Split, ...] = ("train", "test")
"""Members, then non-members."""

NETWORKED = "images stay at the hospitals, and the attack needs the scores of single images"
WITHOUT_IMAGES = "there are no training images or no test images"

Report = Callable[[str, int], None]
"""(hospital, images) is called after so many more images of a hospital were predicted."""


@dataclass(frozen=True)
class _Target:
    """A hospital's training and test images as the attacks score them, N in all."""

    scores: Mapping[AttackKind, Floats]
    """[N] by attack."""
    member: NDArray[np.bool_]
    labels: Ints
    groups: Ints


def attackable(hospitals: Mapping[str, HospitalData]) -> list[str]:
    """Returns the hospitals that have members and non-members."""
    return [name for name, data in sorted(hospitals.items()) if all(len(data[split]) for split in ATTACKED)]


def images_to_predict(hospitals: Mapping[str, HospitalData], references: Mapping[str, State]) -> int:
    """Returns how many images all models of an attack predict together."""
    return sum(
        len(hospitals[name][split]) * (1 + len(references.keys() - {name}))
        for name in attackable(hospitals)
        for split in ATTACKED
    )


def attack(
    hospitals: Mapping[str, HospitalData],
    states: Mapping[str, State],
    references: Mapping[str, State],
    config: TrainingConfig,
    report: Report = lambda hospital, count: None,
) -> MembershipRecord:
    """Attacks the global model at every hospital, and at all together.

    `states` are the weights with which each hospital's images are predicted. `references` are the weights of the hospitals'
    own models, by hospital; without any only the model's own outputs are used.
    """
    names, device = attackable(hospitals), select_device(config.device)
    targets = {name: _score(name, hospitals, states[name], references, config, device, report) for name in names}
    return MembershipRecord(
        attacks=list(_measure_all(targets, config.seed)),
        references={name: sorted(references.keys() - {name}) for name in names if references.keys() - {name}},
        not_attacked=dict.fromkeys(sorted(hospitals.keys() - set(names)), WITHOUT_IMAGES),
    )


def _score(
    name: str,
    hospitals: Mapping[str, HospitalData],
    own: State,
    references: Mapping[str, State],
    config: TrainingConfig,
    device: Device,
    report: Report,
) -> _Target:
    """Returns the scores of a hospital's images; the model predicts them under the hospital's own prior, as it was trained."""
    data = hospitals[name]

    def predict(state: State, prior: float = 1.0) -> NDArray[np.float32]:
        outputs = [predict_images(state, data[split], device, lambda count: report(name, count)) for split in ATTACKED]
        return np.concatenate([under_own_prior(each, data["train"].labels, prior).logits for each in outputs])

    labels = np.concatenate([data[split].labels for split in ATTACKED])
    logits = predict(own, config.missing_class_prior)
    others = sorted(references.keys() - {name})
    scores: dict[AttackKind, Floats] = {"loss": loss_scores(labels, logits), "margin": margin_scores(labels, logits)}
    if others:
        informed = [np.isin(labels, hospitals[other]["train"].labels) for other in others]
        scores["reference"] = reference_scores(labels, logits, [predict(references[each]) for each in others], informed)
    member = np.repeat([True, False], [len(data[split]) for split in ATTACKED])
    return _Target(scores, member, labels, np.concatenate([data[split].groups for split in ATTACKED]))


def _measure_all(targets: Mapping[str, _Target], seed: int) -> Iterator[MembershipAttack]:
    """Yields every attack at both levels, first on all hospitals together, then on each."""
    for hospital in [None, *targets]:
        chosen = list(targets.values()) if hospital is None else [targets[hospital]]
        for kind in chosen[0].scores if chosen else ():
            images = _together(kind, chosen)
            levels: dict[AttackLevel, Scored] = {"image": images, "group": by_group(images)}
            for level, units in levels.items():
                generator = np.random.default_rng(derive_seed(seed, "membership", hospital or "", kind, level))
                if found := measure(units, generator):
                    yield MembershipAttack(attack=kind, level=level, hospital=hospital, **vars(found))


def _together(kind: AttackKind, targets: list[_Target]) -> Scored:
    """Returns the images of several hospitals: strata are pairs of hospital and class, and groups are each hospital's own."""
    return Scored(
        np.concatenate([each.scores[kind] for each in targets]),
        np.concatenate([each.member for each in targets]),
        np.concatenate([each.labels + place * len(LABELS) for place, each in enumerate(targets)]),
        np.concatenate([each.groups * len(targets) + place for place, each in enumerate(targets)]),
    )


def describe(record: MembershipRecord) -> str:
    """Returns the areas of all attacks on all hospitals together, for the log."""
    overall = [each for each in record.attacks if each.hospital is None]
    areas = ", ".join(f"{each.attack} {each.auc:.3f} by {each.level}" for each in overall)
    refused = "; ".join(f"{name}: {reason}" for name, reason in record.not_attacked.items())
    return "; ".join(filter(None, [areas, f"not attacked: {refused}" if refused else ""])) or "nothing to attack"
