"""What a training step costs by depth and by width, through the host's Trainer.

Run: python benchmarks/scaling.py [ROUNDS]. Batches of 64 of the embedded Fashion-MNIST subset; the networks run in
turn in one process, and each round gives the ratio to the smallest.
"""

import sys

from common import median_step, place, ratio, train_recipe

STEPS = 20


def step(depth: int, width: int) -> float:
    """Seconds of a step of a residual CIFAR net, `width` channels in its first stage."""
    widths = [width, 2 * width, 4 * width]
    return median_step(
        train_recipe(
            "fashion_mnist_mini_resnet20",
            f"+arch_params.depth={depth}",
            f"+arch_params.widths={widths}",
            f"training_hyperparams.max_train_batches={STEPS}",
        )
    )


def main(rounds: int) -> None:
    print(place())
    for name, sizes in (
        ("depth", {f"{depth} layers": (depth, 16) for depth in (20, 56, 110)}),
        ("width", {f"width {width}": (20, width) for width in (8, 16, 32, 64)}),
    ):
        times: dict[str, list[float]] = {size: [] for size in sizes}
        for _ in range(rounds):
            for size, shape in sizes.items():
                times[size].append(step(*shape))
        smallest = next(iter(sizes))
        print(f"\n{name}: {smallest} is 1")
        for size in list(sizes)[1:]:
            print("  " + ratio(size, times[size], times[smallest]))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
