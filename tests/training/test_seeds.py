"""Seeds of independent random streams."""

from medisync.training.seeds import derive_seed


def test_seeds_differ_between_rounds_and_hospitals_only() -> None:
    seeds = {derive_seed(0, number, name) for number in (1, 2) for name in ("North", "South")}
    assert len(seeds) == 4
    assert derive_seed(0, 1, "North") in seeds
