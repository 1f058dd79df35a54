"""The device that the configuration names."""

import pytest
import torch

from medisync.errors import ConfigError
from medisync.model.device import Device, describe_device, select_device


def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert select_device("auto").kind == select_device("cpu").kind == "cpu"
    with pytest.raises(ConfigError, match="this machine has no CUDA GPU; use 'auto' or 'cpu'"):
        select_device("cuda")


@pytest.mark.parametrize(("bfloat16", "said"), [(True, "bfloat16"), (False, "float32")])
def test_a_cpu_is_described_by_threads_and_number_format(bfloat16: bool, said: str) -> None:
    assert describe_device(Device("cpu", bfloat16)) == f"CPU, {torch.get_num_threads()} threads, {said}"
