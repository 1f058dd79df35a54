"""Each hospital's own running statistics, from the arithmetic to the file."""

import pytest
import torch
from safetensors.torch import save

from medisync.errors import ModelError
from medisync.model import local_batchnorm
from medisync.model.resnet import build_resnet18

OWN = local_batchnorm.running_statistics(build_resnet18("local").state_dict())


def test_scans_from_elsewhere_get_the_mean_weighted_by_images() -> None:
    # 3 images with mean 1 and one with mean 5: (3 * 1 + 1 * 5) / 4 = 2
    statistics = {
        "North": {"bn1.running_mean": torch.tensor([1.0])},
        "South": {"bn1.running_mean": torch.tensor([5.0])},
    }
    mean = local_batchnorm.average_statistics(statistics, {"North": 3.0, "South": 1.0, "West": 9.0})
    assert {key: tensor.tolist() for key, tensor in mean.items()} == {"bn1.running_mean": [2.0]}
    assert local_batchnorm.average_statistics({}, {"North": 3.0}) == {}


def test_a_file_returns_what_was_written_whatever_a_hospital_is_called() -> None:
    statistics = {"A / B": {key: tensor + 0.5 for key, tensor in OWN.items()}, "एम्स": OWN}
    found = local_batchnorm.parse_statistics(local_batchnorm.serialise_statistics(statistics))
    assert found.keys() == statistics.keys()
    for name, own in statistics.items():
        assert all(torch.equal(found[name][key], tensor) for key, tensor in own.items())


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"PK", "cannot be read"),
        (save({"North/bn1.running_mean": torch.zeros(64)}), "North do not fit.* is missing"),
        (save({f"North/{key}": tensor[:1].contiguous() for key, tensor in OWN.items()}), r"has shape \[1\]"),
        (save({f"North/{key}": tensor * torch.nan for key, tensor in OWN.items()}), "not finite"),
        (
            save({f"North/{key}": tensor - 2 for key, tensor in OWN.items()}),
            "bn1.running_var holds a negative variance",
        ),
    ],
)
def test_anything_but_running_statistics_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        local_batchnorm.parse_statistics(data)
