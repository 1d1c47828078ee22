"""What a distillation step costs, over the student's step alone plus the teacher's forward pass.

Run: python benchmarks/distillation_step.py [ROUNDS]. The three are timed in turn, in one process; each round gives a
ratio. Networks and batch are those of kd_fashion_mnist_mini_resnet56_to_resnet20.
"""

import sys

import torch
from common import now, place, ratio
from super_gradients.training import models
from super_gradients.training.utils import HpmStruct
from torch import nn

from sg_resnets.host.distillation import DistillationLoss
from sg_resnets.host.distillation import RegisteredDistiller as Distiller

METHODS = {
    "KD": {},
    "DKD": {},
    "DIST": {},
    "MLLD": {},
    "FitNet": {"student": "layer2", "teacher": "layer2", "regressor": True},
    "AT": {"student": ["layer1", "layer2", "layer3"], "teacher": ["layer1", "layer2", "layer3"]},
    "RKD": {"student": "avgpool", "teacher": "avgpool"},
}


def seconds(work) -> float:
    start = now()
    work()
    return now() - start


def measure(method: str, taps: dict, rounds: int, batch: int = 64) -> tuple[list[float], list[float]]:
    """Seconds of a distillation step, and of what it is made of, in each round."""
    torch.manual_seed(0)
    arch = {"in_channels": 1, "num_classes": 10}
    student = models.get("resnet20_cifar", arch_params={**arch, "widths": [8, 16, 32]})
    distiller = Distiller(HpmStruct(taps=taps), student, models.get("resnet56_cifar", arch_params=arch))
    images, labels = torch.randn(batch, 1, 28, 28), torch.randint(10, (batch,))
    distiller.fit_to(images[:4])
    distiller.train().to(memory_format=torch.channels_last)
    task = nn.CrossEntropyLoss()
    loss = DistillationLoss(task, method)
    optimiser = torch.optim.SGD(distiller.parameters(), lr=1e-4, momentum=0.9)

    def step(value) -> None:
        optimiser.zero_grad()
        value.backward()
        optimiser.step()

    def student_step() -> None:
        step(task(student(images), labels))

    def teacher_forward() -> None:
        with torch.no_grad():
            distiller.teacher(images)

    def distillation_step() -> None:
        step(loss(distiller(images), labels)[0])

    for work in (student_step, teacher_forward, distillation_step):
        work()
    times = [(seconds(distillation_step), seconds(student_step) + seconds(teacher_forward)) for _ in range(rounds)]
    return [whole for whole, _ in times], [parts for _, parts in times]


if __name__ == "__main__":
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    print(place())
    for method, taps in METHODS.items():
        print(ratio(f"{method:<6} step over student's step and teacher's pass", *measure(method, taps, rounds)))
