"""The federation of engines.py as a job of NVIDIA FLARE's simulator: its FedAvg recipe for PyTorch and its client API.

    .venv/bin/python benchmarks/engine_flare.py --folder FOLDER [--rounds 3] [--images IMAGES]

engines.py starts it, draws the images and says where FLARE is installed. FLARE runs this file again for each hospital, with
`--hospital`. As is usual with FLARE, a hospital validates the weights that it receives and then trains from them, in one task:
as many validations as under the other engines, with half of the messages. Writes the last round's weights to
FOLDER/weights.pth.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

HERE = Path(__file__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the job, or one hospital's part of it; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--hospital", action="store_true")
    options = parser.parse_args(arguments)
    if options.hospital:
        take_part(options.images)
    else:
        simulate(options.folder, options.rounds, options.images)
    return 0


def simulate(folder: Path, rounds: int, images: Path | None) -> None:
    """Runs the job with a process for each hospital for the whole job: with fewer, FLARE starts one for every task."""
    import engines
    from nvflare.app_opt.pt.recipes.fedavg import FedAvgRecipe  # type: ignore[import-not-found]
    from nvflare.client.config import ExchangeFormat  # type: ignore[import-not-found]
    from nvflare.recipe.sim_env import SimEnv  # type: ignore[import-not-found]

    recipe = FedAvgRecipe(
        name="engines",
        model={"class_path": "medisync.model.resnet.build_resnet18", "args": {"seed": engines.TRAINING.seed}},
        min_clients=len(engines.HOSPITALS),
        num_rounds=rounds,
        train_script=str(HERE),
        train_args="--hospital" + (f" --images {images}" if images else ""),
        server_expected_format=ExchangeFormat.PYTORCH,
    )
    recipe.execute(
        SimEnv(clients=list(engines.HOSPITALS), num_threads=len(engines.HOSPITALS), workspace_root=str(folder))
    )
    (kept,) = folder.rglob("FL_global_model.pt")
    torch.save(torch.load(kept, weights_only=True)["model"], folder / "weights.pth")


def take_part(images: Path | None) -> None:
    """Takes part in all rounds as one hospital."""
    from nvflare import client  # type: ignore[import-not-found]
    from nvflare.app_common.abstract.fl_model import FLModel  # type: ignore[import-not-found]

    client.init()
    while client.is_running():
        received = client.receive()
        state, steps, accuracy = received.params, 1, 0.0
        if images:
            state, steps, accuracy = work(received.params, client.get_site_name(), received.current_round + 1, images)
        client.send(FLModel(params=state, metrics={"accuracy": accuracy}, meta={"NUM_STEPS_CURRENT_ROUND": steps}))


def work(
    state: Mapping[str, torch.Tensor], hospital: str, round_number: int, images: Path
) -> tuple[dict[str, torch.Tensor], int, float]:
    """Returns the weights after training, the number of images, and the accuracy before training.

    Calls the functions that medisync's client app calls.
    """
    import engines

    from medisync.model.device import select_device
    from medisync.training.local import RoundInstructions, predict_images, train_locally
    from medisync.training.seeds import derive_seed

    config, data = engines.TRAINING, engines.open_hospital(images, hospital)
    device = select_device(config.device)
    outputs = predict_images(state, data["val"], device)
    update = train_locally(
        state,
        data["train"],
        RoundInstructions(config, config.learning_rate),
        generator=torch.Generator().manual_seed(derive_seed(config.seed, round_number, hospital)),
        device=device,
    )
    sent = {key: tensor.contiguous() for key, tensor in update.state.items()}  # FLARE sends no others
    return sent, update.images, float((outputs.logits.argmax(axis=1) == data["val"].labels).mean())


if __name__ == "__main__":
    sys.exit(main())
