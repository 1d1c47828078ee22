"""What a folder of pictures comes to, on Fashion-MNIST written as PNGs.

Run: python benchmarks/own_pictures.py [imbalance | shipped]. `imbalance`: 6,000 training pictures, of each class 0.6
times as many as of the one before, so that the first has a hundred times as many as the last; macro-recall on the
10,000 test pictures with no weights, with balanced weights and with the balanced sampler, all with random erasing, as
pictures of rare classes are seen often; three seeds each. `shipped`:
12,000 training pictures, and the three commands from a folder to an INT8 network: teacher, student of half the width,
INT8; then the report on the 10,000 test pictures.
"""

import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from sg_resnets.data import in_memory

TEST = {"train": False}
SMALL = [
    "arch_params.in_channels=1", "dataset_params.train_dataset_params.size=28",
    "dataset_params.train_dataset_params.fit=squash", "dataset_params.train_dataloader_params.batch_size=64",
    "training_hyperparams.silent_mode=True",
]  # fmt: skip
ALIKE = "oversample_threshold:1.0,oversample_aggressiveness:1.0"  # all classes are drawn alike
VARIANTS = {
    "neither": [],
    "balanced weights": ["+training_hyperparams.criterion_params.weight=balanced"],
    "balanced sampler": [f"+dataset_params.train_dataloader_params.sampler={{ClassBalancedSampler:{{{ALIKE}}}}}"],
}


def write_folder(root: Path, of_class: list[int]) -> None:
    """train/ with so many pictures of each class, val/ with 200 others of each, test/ with all that there are."""
    for part, data in (("train", in_memory("fashion_mnist")), ("test", in_memory("fashion_mnist", train=False))):
        images, labels = data.images.squeeze(1).numpy(), data.labels.numpy()
        for label, name in enumerate(data.class_names):
            of_label = np.flatnonzero(labels == label)
            end = of_class[label]
            parts = {"train": of_label[:end], "val": of_label[end : end + 200]} if part == "train" else {part: of_label}
            for place, indices in parts.items():
                folder = root / place / name.replace("/", " ")
                folder.mkdir(parents=True)
                for index in indices:
                    Image.fromarray(images[index]).save(folder / f"{index:05d}.png")


def run(entry: str, recipe: str, root: Path, runs: Path, *overrides: str) -> Path:
    """Run a recipe by SuperGradients' entry point; the folder of its run."""
    name = next(each.partition("=")[2] for each in overrides if each.startswith("experiment_name="))
    command = [sys.executable, "-m", f"super_gradients.{entry}_from_recipe", f"--config-name={recipe}", *overrides]
    command += [f"dataset_params.train_dataset_params.root={root}", f"ckpt_root_dir={runs}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
    return sorted((runs / name).glob("RUN_*"))[-1]


def evaluated(folder: Path, root: Path) -> tuple[float, float, float]:
    """Accuracy and macro-recall on the test part, and the seconds of the command."""
    start = time.perf_counter()
    script = Path(sys.executable).with_name("sg-resnets")
    subprocess.run([script, "evaluate", folder, "--split", "test"], check=True, capture_output=True)
    seconds = time.perf_counter() - start
    found = json.loads((folder / "report_test.json").read_text())
    return found["accuracy"], statistics.mean(each["recall"] for each in found["classes"]), seconds


def imbalance(folder: Path) -> None:
    weights = 100 ** (-np.arange(10) / 9)
    counts = np.rint(6000 * weights / weights.sum()).astype(int).tolist()
    print(f"pictures of each class: {counts}")
    write_folder(folder / "pictures", counts)
    for name, overrides in VARIANTS.items():
        found = []
        for seed in range(3):
            always = ["architecture=resnet20_cifar", "epochs=15", f"training_hyperparams.seed={seed}"]
            always += [f"experiment_name={name.replace(' ', '_')}_{seed}", "training_hyperparams.initial_lr=0.1"]
            always.append("+dataset_params.train_dataset_params.random_erasing=0.5")
            run_folder = run(
                "train", "image_folder_resnet18", folder / "pictures", folder / "runs", *SMALL, *always, *overrides
            )
            found.append(evaluated(run_folder, folder / "pictures")[1])
        print(
            f"{name:<17} macro-recall  {spread(found)}", flush=True
        )  # and accuracy: each class has 1,000 test pictures


def spread(values: list[float]) -> str:
    each = ", ".join(f"{value:.4f}" for value in values)
    return f"{statistics.mean(values):.4f} +- {statistics.stdev(values):.4f} ({each})"


def shipped(folder: Path) -> None:
    root, runs = folder / "pictures", folder / "runs"
    write_folder(root, [1200] * 10)
    few = ["epochs=10", "training_hyperparams.initial_lr=0.1"]
    teacher = run(
        "train", "image_folder_resnet18", root, runs, *SMALL, *few,
        "architecture=resnet20_cifar", "experiment_name=teacher",
    )  # fmt: skip
    of_student = [each.replace("arch_params", "student_arch_params") for each in SMALL]
    student = run(
        "train", "kd_image_folder", root, runs, *of_student, *few, "student_architecture=resnet20_cifar",
        "+student_arch_params.widths=[8,16,32]", "student_checkpoint_params.pretrained_weights=null",
        "teacher_architecture=resnet20_cifar",
        f"teacher_checkpoint_params.checkpoint_path={teacher}", "experiment_name=student",
    )  # fmt: skip
    int8 = run(
        "qat", "qat_image_folder", root, runs, SMALL[0], "architecture=resnet20_cifar", "+arch_params.widths=[8,16,32]",
        f"checkpoint_params.checkpoint_path={student}", "experiment_name=int8",
    )  # fmt: skip
    for name, where in (("teacher", teacher), ("student", student)):
        accuracy, _, seconds = evaluated(where, root)
        print(f"{name}: accuracy {accuracy:.4f} on the 10,000 test pictures; the command took {seconds:.1f} s")
    print("int8:", (int8 / "report.json").read_text())
    page = student / "report_test.html"
    with open(student / "report_test.csv", newline="") as rows:
        print(f"the page of {len(list(csv.reader(rows))) - 1:,} pictures: {page.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        {"imbalance": imbalance, "shipped": shipped}[sys.argv[1]](Path(place))
