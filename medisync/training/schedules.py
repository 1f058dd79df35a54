"""Learning rate and image size over the rounds."""

import math

from medisync.config import LearningRateSchedule, TrainingConfig

WARM_UP = 0.3
"""Fraction of the rounds before weak labels take part."""


def scheduled_rate(first: float, schedule: LearningRateSchedule, round_number: int, rounds: int) -> float:
    """The learning rate in a round, counted from 1, if it is `first` in round 1.

    "constant" leaves it unchanged; "cosine" lowers it to a twentieth in the last round; "linear" lowers it evenly, to
    what would be 0 in the round after the last, and leaves more for the rounds whose images have just grown.

    The linear schedule against the cosine, and why it ends at 0: Defazio et al. 2023, https://arxiv.org/abs/2310.07831.
    """
    if schedule == "constant" or rounds == 1:
        return first
    if schedule == "linear":
        return first * (1 - (round_number - 1) / rounds)
    cosine = (1 + math.cos(math.pi * (round_number - 1) / (rounds - 1))) / 2
    return first * (0.05 + 0.95 * cosine)


def uses_weak_labels(config: TrainingConfig, round_number: int, rounds: int) -> bool:
    """Whether images whose label is known in part take part in a round, counted from 1: not in the first 30 %.

    Which half of a scan holds the tumour is decided by the network itself, which has to know tumours first.
    """
    return bool(config.mirrored_halves or config.drawn_lesions) and round_number > WARM_UP * rounds


def scheduled_size(config: TrainingConfig, round_number: int, rounds: int) -> int:
    """The side of the images in a round, counted from 1, in pixels.

    "constant" is `config.image_size`; "progressive" is 2/7 of it in the first fifth of the rounds and 4/7 until four
    fifths, both rounded to a multiple of 16, then all of it: 64, 128, 224.

    Small images first: Howard's entry to DAWNBench, https://www.fast.ai/posts/2018-08-10-fastai-diu-imagenet.html, and
    Tan & Le 2021, https://arxiv.org/abs/2104.00298.
    """
    done = round_number / rounds  # after the round, so that the last has full-size images however few rounds there are
    if config.image_size_schedule == "constant" or done > 0.8:
        return config.image_size
    return max(32, 16 * round(config.image_size * (2 / 7 if done <= 0.2 else 4 / 7) / 16))
