"""Distillation in SuperGradients: where the networks are, and what is said when the student has reached its teacher."""

from types import SimpleNamespace

import pytest
import torch


@pytest.mark.parametrize("where", ["meta", "cpu"])
def test_networks_and_images_meet_on_the_device(distiller, monkeypatch, where):
    """The images of a loader may be on the GPU already, and may not: `meta` stands in for it."""
    from sg_resnets.host import distillation as trainer

    tried: list = []
    monkeypatch.setattr(trainer.device_config, "device", "meta")
    monkeypatch.setattr(trainer, "try_loss", lambda criterion, output, labels: tried.extend((*output[:2], labels)))
    network = distiller(taps={"student": "layer2", "teacher": "layer2", "regressor": True})
    loader = [(torch.randn(8, 1, 28, 28, device=where), torch.zeros(8, dtype=torch.long, device=where))]
    loss = {"DistillationLoss": {"task": {"CrossEntropyLoss": {}}, "method": "FitNet"}}
    trainer.prepare_distillation(network, {"loss": loss}, None, loader)
    tensors = (*tried, *network.parameters(), *network.teacher.parameters(), *network.regressors.parameters())
    assert {tensor.device.type for tensor in tensors} == {"meta"} and len(network.regressors) == 1


@pytest.mark.parametrize(
    ("metric", "greater_is_better", "student", "warns"),
    [
        ("Accuracy", True, 0.9, True),
        ("Accuracy", True, 0.89, False),
        ("Loss", False, 0.2, True),
        ("Loss", False, 0.4, False),
    ],
)
def test_a_student_as_good_as_its_teacher_is_told(host, caplog, metric, greater_is_better, student, warns):
    from sg_resnets.host.distillation import TeacherFigures

    context = SimpleNamespace(
        metric_to_watch=metric,
        metrics_dict={metric: student},
        training_params=SimpleNamespace(greater_metric_to_watch_is_better=greater_is_better),
        ddp_silent_mode=False,
    )
    callback = TeacherFigures()
    callback.teachers = {"Accuracy": 0.9, "Loss": 0.3}
    for _ in range(2):
        callback.on_validation_loader_end(context)
    assert caplog.text.count("The student has reached its teacher") == warns
