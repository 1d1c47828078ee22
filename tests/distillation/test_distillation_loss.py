"""The loss of a distillation: task and method, their weights, their format, and values that are refused."""

import math

import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf

from sg_resnets.distillation import losses
from sg_resnets.utils.errors import SgResnetsError
from sg_resnets.utils.paths import recipes_path

N, K = 6, 5


@pytest.mark.parametrize("method", ["KD", "DKD", "DIST", "MLLD"])
def test_mixed_labels_and_any_task_loss(host, method):
    """BCE with mixup's labels, and smoothed cross-entropy; the parts are logged as they are, before the weights."""
    output = losses.DistillationOutput(torch.randn(N, K), torch.randn(N, K))
    mixed = F.softmax(torch.randn(N, K), 1)
    bce = losses.DistillationLoss(torch.nn.BCEWithLogitsLoss(), {method: {}}, weight=0.3, task_weight=0.7)
    loss, parts = bce(output, mixed)
    task = F.binary_cross_entropy_with_logits(output.student_output, mixed)
    assert bce.component_names == ["loss", "task", method]
    torch.testing.assert_close(parts[1], task)
    torch.testing.assert_close(loss, 0.7 * task + 0.3 * parts[2])
    from sg_resnets.host.distillation import DistillationLoss  # which takes its task by name

    smoothed = DistillationLoss(task={"CrossEntropyLoss": {"smooth_eps": 0.1}}, method=method)
    labels = mixed.argmax(1)
    expected = F.cross_entropy(output.student_output, labels, label_smoothing=0.1)
    torch.testing.assert_close(smoothed(output, labels)[1][1], expected)


@pytest.mark.parametrize("path", sorted((recipes_path() / "distillation").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_distillation_of_the_recipes_is_a_loss(path):
    group = OmegaConf.to_container(OmegaConf.load(path))
    assert group.pop("name") == path.stem and set(group.pop("taps")) == {"student", "teacher", "regressor"}
    if path.stem == "none":
        return
    loss = losses.DistillationLoss(torch.nn.CrossEntropyLoss(), **group)
    assert [type(loss.method).__name__] == list(group["method"]) and loss.weight == group["weight"]


def test_the_weight_warms_up():
    loss = losses.DistillationLoss(torch.nn.CrossEntropyLoss(), "KD", weight=2.0, warmup_epochs=4)
    output, labels = losses.DistillationOutput(torch.randn(N, K), torch.randn(N, K)), torch.zeros(N, dtype=torch.long)
    for epoch, ramp in ((1, 0.25), (2, 0.5), (4, 1), (9, 1)):
        loss.epoch = epoch
        total, (_, task, method) = loss(output, labels)
        torch.testing.assert_close(total, task + 2.0 * ramp * method)


@pytest.mark.parametrize(
    ("method", "weight"),
    [
        ({"KD": {"standardize": True}}, 1.0),
        ({"DKD": {"standardize": True}}, 1.0),
        ("DIST", 0.25),
        ({"MLLD": {"standardize": True, "batch": 0.05, "classes": 0.005}}, 0.2),
    ],
)
def test_a_classifier_that_starts_at_zero_learns(method, weight):
    """All logits are equal at first, so that a standardised gradient has no bound."""
    torch.manual_seed(0)
    images, truth = torch.randn(64, 20), torch.randn(20, K)
    student, teacher = torch.zeros(20, K, requires_grad=True), images @ truth
    optimiser = torch.optim.SGD([student], lr=0.02, momentum=0.9)
    loss = losses.DistillationLoss(torch.nn.CrossEntropyLoss(), method, weight)
    totals = []
    for _ in range(200):
        total, _ = loss(losses.DistillationOutput(images @ student, teacher), teacher.argmax(1))
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        totals.append(float(total.detach()))
    assert totals[-1] < 0.1 * totals[0]
    assert ((images @ student).argmax(1) == teacher.argmax(1)).float().mean() > 0.95


def test_under_bfloat16_the_loss_is_computed_in_float32():
    output = losses.DistillationOutput(torch.randn(N, K).bfloat16(), torch.randn(N, K).bfloat16())
    loss = losses.DistillationLoss(torch.nn.CrossEntropyLoss(), "KD")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total, _ = loss(output, torch.zeros(N, dtype=torch.long))
    exact = losses.KD()(losses.DistillationOutput(*(z.float() for z in output[:2])), None)
    task = F.cross_entropy(output.student_output.float(), torch.zeros(N, dtype=torch.long))
    assert total.dtype == torch.float32
    torch.testing.assert_close(total, task + exact)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"method": "nope"}, "valid: KD, DKD, DIST, MLLD, FitNet, AT, RKD"),
        ({"method": {"KD": {"temperature": 0}}}, "temperature=0: must be a number > 0"),
        ({"method": {"DIST": {"temperature": -1}}}, "temperature=-1"),
        ({"method": {"DKD": {"gamma": 1}}}, "DKD takes alpha, beta, temperature, standardize, not gamma"),
        ({"method": {"KD": {"temperature": "hot"}}}, "KD.temperature=hot: must be a number"),
        ({"method": {"KD": {"temperature": None}}}, "KD.temperature=None: must be a number"),
        ({"method": {"DKD": {"beta": math.inf}}}, "DKD.beta=inf: must be a number"),
        ({"method": {"FitNet": {"args": 1}}}, "FitNet takes no parameters, not args"),
        ({"method": None}, "one of KD, DKD, DIST, MLLD, FitNet, AT, RKD, not none"),
        ({"method": {"KD": {}, "AT": {}}}, "one of KD.*not KD, AT"),
        ({"method": 5}, "one of KD.*not 5"),
        ({"method": ["KD"]}, "one of KD.*not \\['KD'\\]"),
        ({"method": {"KD": 4}}, "method.KD=4: must be parameters by name"),
        ({"method": {"KD": {"standardize": 5}}}, "KD: standardize=5: must be True or False"),
        ({"method": {"DKD": {"alpha": -5}}}, "DKD: alpha=-5: must be a number >= 0"),
        ({"method": {"DKD": {"standardize": "yes"}}}, "DKD.standardize=yes: must be True or False"),
        ({"method": {"DKD": {"standardize": 0}}}, "DKD: standardize=0: must be True or False"),
        ({"method": {"MLLD": {"temperature": [2, 3]}}}, "MLLD.temperature=.2, 3.: must be a number"),
        ({"method": {"MLLD": {"temperature": True}}}, "MLLD: temperature=True: must be a number > 0"),
        ({"method": {"MLLD": {"classes": -0.5}}}, "MLLD: classes=-0.5: must be a number >= 0"),
        ({"method": {"MLLD": {"alpha": 1}}}, "MLLD takes temperature, .*, batch, classes, not alpha"),
        ({"method": "KD", "weight": -1}, "distillation.weight=-1"),
        ({"method": "KD", "weight": "much"}, "distillation.weight='much'"),
        ({"method": "KD", "task_weight": None}, "distillation.task_weight=None"),
    ],
)
def test_wrong_values_are_refused(params, words):
    with pytest.raises(SgResnetsError, match=words.replace("(", r"\(")):
        losses.DistillationLoss(torch.nn.CrossEntropyLoss(), **params)
