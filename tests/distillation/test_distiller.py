"""Teacher and student side by side: their taps, the regressors between them, and the images of each."""

import copy

import pytest
import torch
import torch.nn.functional as F

from sg_resnets.utils.errors import SgResnetsError


def test_taps_give_the_modules_outputs_and_leave_no_hook(distiller, images):
    network = distiller(taps={"student": ["layer1", "layer2"], "teacher": ["layer1.0", "layer2"]}).eval()
    output = network(images)
    x = network.student.relu(network.student.bn1(network.student.conv1(images)))
    first = network.student.layer1(x)
    torch.testing.assert_close(output.student_features[0], first)
    torch.testing.assert_close(output.student_features[1], network.student.layer2(first))
    assert output.teacher_features[1].shape == (4, 16, 14, 14) and not output.teacher_features[1].requires_grad
    hooks = [m for top in (network, network.teacher) for m in top.modules() if m._forward_hooks]
    assert not hooks


@pytest.mark.parametrize("tap", ["bn1", "layer1.0.bn1"])
def test_a_tap_is_what_its_module_gave_not_what_relu_made_of_it(distiller, images, tap):
    network = distiller(taps={"student": tap, "teacher": tap}).eval()
    for features in network(images)[2:]:
        assert features[0].min() < 0


def test_the_teacher_is_held_but_is_no_part_of_the_network(distiller, images):
    network = distiller(taps={"student": "layer2", "teacher": "layer2"})
    before = copy.deepcopy(network.teacher.state_dict())
    network.train()
    network(images).student_output.sum().backward()
    assert not network.teacher.training and network.student.training
    assert all(torch.equal(value, before[key]) for key, value in network.teacher.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in network.teacher.parameters())
    assert {key.partition(".")[0] for key in network.state_dict()} == {"student"}
    assert sum(p.numel() for p in network.parameters()) == sum(p.numel() for p in network.student.parameters())
    twin = copy.deepcopy(network)
    assert twin.teacher is network.teacher and twin.student is not network.student
    network.to(torch.float64)
    assert next(network.teacher.parameters()).dtype == torch.float64


def test_copies_tap_their_own_student(distiller, images):
    network = distiller(taps={"student": "layer3", "teacher": "layer3"}).eval()
    ema = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in ema.parameters():
            parameter.mul_(0.5)
    ours, theirs = network(images).student_features[0], ema(images).student_features[0]
    assert not torch.allclose(ours, theirs)
    torch.testing.assert_close(network(images).student_features[0], ours)


def test_regressors_bring_channels_together_and_learn(distiller, images):
    network = distiller(taps={"student": "layer2", "teacher": "layer2", "regressor": True})
    network.fit_to(images)
    assert network.regressors[0].weight.shape == (16, 8, 1, 1) and len(list(network.regressors.parameters())) == 2
    output = network.train()(images)
    F.mse_loss(output.student_features[0], output.teacher_features[0]).backward()
    assert network.regressors[0].weight.grad.abs().sum() > 0 and network.student.conv1.weight.grad.abs().sum() > 0


def test_regressors_are_made_once_in_the_students_format_and_the_mode_stays(distiller, images):
    network = distiller(taps={"student": "layer2", "teacher": "layer2", "regressor": True}).bfloat16().train()
    network.fit_to(images.bfloat16())
    made = network.regressors[0]
    output = network.fit_to(images.bfloat16())
    assert network.regressors[0] is made and len(network.regressors) == 1
    assert output.student_features[0].dtype == torch.bfloat16 and network.training and not network.teacher.training


def test_what_the_teacher_would_freeze_is_not_the_students(distiller):
    from sg_resnets.distillation.distiller import Distiller

    student, teacher = (distiller().student for _ in range(2))
    teacher.conv1 = student.conv1
    with pytest.raises(SgResnetsError, match=r"share conv1.weight, and .* copy.deepcopy\(network\)"):
        Distiller(student, teacher)
    with pytest.raises(SgResnetsError, match=r"share conv1.weight, bn1.weight, bn1.bias, \.\.\., and"):
        Distiller(student, student)
    assert all(parameter.requires_grad for parameter in student.parameters())


def test_a_tap_that_is_not_run_is_named(distiller, images):
    from sg_resnets.distillation.distiller import Distiller

    whole = distiller()
    whole.student.spare = torch.nn.Identity()
    network = Distiller(whole.student, whole.teacher, {"student": "spare", "teacher": "layer2"})
    with pytest.raises(SgResnetsError, match="taps: spare is not run"):
        network(images)


def test_the_input_adapter_gives_the_teacher_the_images_it_knows(distiller, host):
    from sg_resnets.distillation.distiller import InputAdapter

    pixels = torch.rand(2, 1, 8, 8)
    adapter = InputAdapter(
        student={"mean": [0.3], "std": [0.2]},
        teacher={"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        size=16,
    )
    adapted = adapter((pixels - 0.3) / 0.2)
    assert adapted.shape == (2, 3, 16, 16)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = (pixels - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(adapted.mean((0, 2, 3)), expected.mean((0, 2, 3)), atol=0.05, rtol=0.05)
    same = InputAdapter(student={"mean": [0.3], "std": [0.2]}, teacher={"mean": [0.5], "std": [0.5]})
    torch.testing.assert_close(same((pixels - 0.3) / 0.2), (pixels - 0.5) / 0.5)
    network = distiller(taps={"student": "layer2", "teacher": "layer2"}, teacher_input={"size": 56})
    with pytest.raises(SgResnetsError, match="same height and width"):
        network.fit_to(torch.randn(2, 1, 28, 28))
    with pytest.raises(SgResnetsError, match="teacher_input has no side: it takes student, teacher and size"):
        distiller(teacher_input={"side": 56})
    with pytest.raises(SgResnetsError, match="needs both student"):
        InputAdapter(student={"mean": [0.3], "std": [0.2]})
    with pytest.raises(SgResnetsError, match=r"described by .* not by {'mean': \[0.5\]}"):
        InputAdapter(student={"mean": [0.3], "std": [0.2]}, teacher={"mean": [0.5]})
    with pytest.raises(SgResnetsError, match=r"std=\[0.0\]: must be above 0"):
        InputAdapter(student={"mean": [0.3], "std": [0.2]}, teacher={"mean": [0.5], "std": [0]})
    with pytest.raises(SgResnetsError, match="size='big': must be"):
        InputAdapter(size="big")


@pytest.mark.parametrize(
    ("taps", "words"),
    [
        ({"student": "layr2", "teacher": "layer2"}, "the student has no module 'layr2': did you mean layer2.*fc"),
        ({"student": "layer2", "teacher": "layer9"}, "the teacher has no module 'layer9'"),
        ({"student": ["layer1", "layer2"], "teacher": "layer2"}, "give as many of each"),
        ({"studnet": "layer2", "teacher": "layer2"}, "taps has no studnet: it takes student, teacher and regressor"),
    ],
)
def test_wrong_taps_list_the_valid_ones(distiller, taps, words):
    with pytest.raises(SgResnetsError, match=words):
        distiller(taps=taps)
