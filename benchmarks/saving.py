"""What a checkpoint within an epoch costs: the time of one, as a share of the minute, or the ten, between two.

fashion_mnist_resnet20's network, optimiser and metrics, on the embedded subset; a checkpoint every 20 steps, so that
there are enough to tell of.
"""

import statistics
import tempfile
import time

from super_gradients import Trainer, init_trainer
from super_gradients.common.environment.cfg_utils import load_recipe

from sg_resnets.host.progress import Progress

OVERRIDES = ["epochs=2", "training_hyperparams.save_every=20steps"]


def main() -> None:
    """Print the table."""
    taken: list[float] = []
    of_steps = {name: getattr(Progress, name) for name in ("state", "save")}

    def timed(name: str) -> None:
        def call(self: Progress, *args: object) -> object:
            began = time.perf_counter()
            result = of_steps[name](self, *args)
            taken.append(time.perf_counter() - began)
            return result

        setattr(Progress, name, call)

    for name in of_steps:
        timed(name)
    init_trainer()
    with tempfile.TemporaryDirectory() as folder:
        Trainer.train_from_config(
            load_recipe("fashion_mnist_mini_resnet20", overrides=[*OVERRIDES, f"ckpt_root_dir={folder}"])
        )
    pairs = [sum(taken[i : i + 2]) for i in range(0, len(taken) - 1, 2)]
    median, most = statistics.median(pairs), max(pairs)
    print(f"{len(pairs)} checkpoints: median {1e3 * median:.1f} ms, at most {1e3 * most:.1f} ms")
    for minutes in (1, 10):
        print(
            f"one every {minutes} min: {median / (60 * minutes):.3%} of the time, at most {most / (60 * minutes):.3%}"
        )


if __name__ == "__main__":
    main()
