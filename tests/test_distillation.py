"""Distillation: the losses against the papers' equations, teacher and taps, and whole runs through the host."""

import copy
import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from sg_resnets.runs.checkpoints import read
from sg_resnets.utils.errors import SgResnetsError

RECIPE = "kd_fashion_mnist_mini_resnet56_to_resnet20"
METHODS = ("kd", "kd_standardized", "dkd", "dist", "fitnet", "at", "rkd")
SMALL = {"num_classes": 10, "in_channels": 1, "depth": 8}
N, K = 6, 5


@pytest.fixture(scope="module")
def losses(host):
    from sg_resnets.distillation import losses

    return losses


@pytest.fixture
def distiller(host):
    """distiller(taps=..., teacher_input=...) -> a student of widths 4, 8, 16 and a teacher of twice as many."""
    from super_gradients.training.utils import HpmStruct

    from sg_resnets.host.distillation import RegisteredDistiller as Distiller
    from sg_resnets.models import ResNet
    from sg_resnets.models.zoo import ZOO

    def make(**arch_params):
        config = ZOO["resnet20_cifar"].config
        student, teacher = (ResNet(config.override(**SMALL, widths=widths)) for widths in ([4, 8, 16], [8, 16, 32]))
        return Distiller(HpmStruct(**arch_params), student, teacher)

    return make


@pytest.fixture
def images():
    return torch.randn(4, 1, 28, 28)


# The losses. The references follow the equations literally, image by image, in float64.


def reference_softmax(logits, temperature=1.0):
    powers = [math.e ** (z / temperature) for z in logits]
    return [power / sum(powers) for power in powers]


def reference_kl(p, q):
    return sum(pi * torch.log(pi / qi) for pi, qi in zip(p, q, strict=True))


def reference_kd(student, teacher, target, temperature=3.0):
    each = [
        reference_kl(reference_softmax(t, temperature), reference_softmax(s, temperature))
        for s, t in zip(student, teacher, strict=True)
    ]
    return temperature**2 * sum(each) / N


def reference_standardized(student, teacher, target):
    def z_scores(logits):
        mean = sum(logits) / K
        return [(z - mean) / torch.sqrt(sum((z - mean) ** 2 for z in logits) / (K - 1)) for z in logits]

    return reference_kd([z_scores(s) for s in student], [z_scores(t) for t in teacher], target, 2.0)


def reference_dkd(student, teacher, target, alpha=0.7, beta=3.0, temperature=4.0):
    total = 0.0
    for s, t, label in zip(student, teacher, target, strict=True):
        p, q = reference_softmax(t, temperature), reference_softmax(s, temperature)
        total += alpha * reference_kl([p[label], 1 - p[label]], [q[label], 1 - q[label]])
        others = [k for k in range(K) if k != label]
        total += beta * reference_kl([p[k] / (1 - p[label]) for k in others], [q[k] / (1 - q[label]) for k in others])
    return temperature**2 * total / N


def reference_dist(student, teacher, target, beta=1.5, gamma=0.5, temperature=2.0):
    q, p = (
        torch.stack([torch.stack(reference_softmax(z, temperature)) for z in logits]) for logits in (student, teacher)
    )

    def pearson(a, b):
        a, b = a - a.sum() / len(a), b - b.sum() / len(b)
        return (a * b).sum() / torch.sqrt((a**2).sum() * (b**2).sum())

    inter = sum(1 - pearson(q[i], p[i]) for i in range(N)) / N
    intra = sum(1 - pearson(q[:, k], p[:, k]) for k in range(K)) / K
    return temperature**2 * (beta * inter + gamma * intra)


def reference_fitnet(student, teacher, target):
    return sum(((s - t) ** 2).sum() / s.numel() for s, t in zip(student, teacher, strict=True))


def reference_at(student, teacher, target, p=2.0):
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        maps = [sum(f[:, c].abs() ** p for c in range(f.shape[1])) for f in (s, t)]
        for a, b in zip(*maps, strict=True):
            difference = a / torch.sqrt((a**2).sum()) - b / torch.sqrt((b**2).sum())
            total += (difference**2).sum() / (difference.numel() * N)
    return total


def reference_rkd(student, teacher, target, distance=2.0, angle=3.0):
    def huber(a, b):
        return 0.5 * (a - b) ** 2 if abs(a - b) <= 1 else abs(a - b) - 0.5

    total = 0.0
    for features in zip(student, teacher, strict=True):
        distances, angles = [], []
        for f in (f.flatten(1) for f in features):
            d = {(i, j): torch.sqrt(((f[i] - f[j]) ** 2).sum()) for i in range(N) for j in range(N) if i != j}
            mean = sum(d.values()) / len(d)
            distances.append({pair: value / mean for pair, value in d.items()})
            angles.append(
                {
                    (i, j, k): ((f[i] - f[j]) * (f[k] - f[j])).sum() / (d[i, j] * d[k, j])
                    for i in range(N)
                    for j in range(N)
                    for k in range(N)
                    if i != j and k != j
                }
            )
        total += distance * sum(huber(distances[0][p], distances[1][p]) for p in distances[0]) / N**2
        total += angle * sum(huber(angles[0][p], angles[1][p]) for p in angles[0]) / N**3
    return total


LOGITS = (
    ("KD", {"temperature": 3.0}, reference_kd),
    ("KD", {"temperature": 2.0, "standardize": True}, reference_standardized),
    ("DKD", {"alpha": 0.7, "beta": 3.0, "temperature": 4.0}, reference_dkd),
    ("DIST", {"beta": 1.5, "gamma": 0.5, "temperature": 2.0}, reference_dist),
)
FEATURES = (
    ("FitNet", {}, reference_fitnet),
    ("AT", {}, reference_at),
    ("AT", {"p": 1.5}, reference_at),
    ("RKD", {"distance": 2.0, "angle": 3.0}, reference_rkd),
)


@pytest.mark.parametrize(("name", "params", "reference"), LOGITS)
def test_losses_of_logits_equal_the_papers_equations(losses, name, params, reference):
    student, teacher = (3 * torch.randn(N, K, dtype=torch.float64) for _ in range(2))
    target = torch.randint(K, (N,))
    ours, theirs = student.clone().requires_grad_(), student.clone().requires_grad_()
    loss = getattr(losses, name)(**params)(losses.DistillationOutput(ours, teacher), target)
    expected = reference(theirs, teacher, target)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("name", "params", "reference"), FEATURES)
def test_losses_of_features_equal_the_papers_equations(losses, name, params, reference):
    student, teacher = ([torch.randn(N, 3, s, s, dtype=torch.float64) for s in (4, 2)] for _ in range(2))
    logits = torch.randn(N, K, dtype=torch.float64)
    ours, theirs = ([f.clone().requires_grad_() for f in student] for _ in range(2))
    output = losses.DistillationOutput(logits, logits, ours, teacher)
    loss = getattr(losses, name)(**params)(output, torch.zeros(N, dtype=torch.long))
    expected = (reference if name != "AT" else lambda s, t, y: reference(s, t, y, **params))(theirs, teacher, None)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    loss.backward()
    expected.backward()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-6, atol=1e-9)


def test_dkd_weighs_kd_apart(losses):
    """KD = TCKD + (1 - p_target) NCKD (Zhao et al. 2022, section 3): with one image, beta = 1 - p_target gives KD."""
    student, teacher, target = torch.randn(1, K), torch.randn(1, K), torch.tensor([2])
    output = losses.DistillationOutput(student, teacher)
    beta = 1 - F.softmax(teacher / 4, 1)[0, 2].item()
    dkd = losses.DKD(alpha=1.0, beta=beta, temperature=4.0)(output, target)
    torch.testing.assert_close(dkd, losses.KD(temperature=4.0)(output, target))


@pytest.mark.parametrize("name", ["KD", "DKD", "DIST", "FitNet", "AT", "RKD"])
def test_a_student_like_its_teacher_has_nothing_to_learn(losses, name):
    logits, features = torch.randn(N, K), [torch.randn(N, 3, 4, 4)]
    student = [f.clone().requires_grad_() for f in (logits, *features)]
    output = losses.DistillationOutput(student[0], logits, student[1:], features)
    loss = getattr(losses, name)()(output, torch.zeros(N, dtype=torch.long))
    assert abs(loss.item()) < 1e-5
    loss.backward()
    assert all(s.grad is None or s.grad.abs().max() < 1e-4 for s in student)


def test_rkd_of_images_that_look_the_same_to_the_student_has_finite_gradients(losses):
    student, teacher = torch.randn(N, 8), torch.randn(N, 8)
    student[1] = student[0]
    student.requires_grad_()
    losses.RKD()(losses.DistillationOutput(teacher, teacher, [student], [teacher]), None).backward()
    assert student.grad.abs().max() < 1e3
    same = torch.ones(N, 8, requires_grad=True)
    losses.RKD()(losses.DistillationOutput(teacher, teacher, [same], [teacher]), None).backward()
    assert same.grad.isfinite().all()


@pytest.mark.parametrize("method", ["KD", "DKD", "DIST"])
def test_mixed_labels_and_any_task_loss(losses, method):
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


def test_the_weight_warms_up(losses):
    loss = losses.DistillationLoss(torch.nn.CrossEntropyLoss(), "KD", weight=2.0, warmup_epochs=4)
    output, labels = losses.DistillationOutput(torch.randn(N, K), torch.randn(N, K)), torch.zeros(N, dtype=torch.long)
    for epoch, ramp in ((1, 0.25), (2, 0.5), (4, 1), (9, 1)):
        loss.epoch = epoch
        total, (_, task, method) = loss(output, labels)
        torch.testing.assert_close(total, task + 2.0 * ramp * method)


@pytest.mark.parametrize(("method", "weight"), [({"KD": {"standardize": True}}, 1.0), ("DIST", 0.25)])
def test_a_classifier_that_starts_at_zero_learns(losses, method, weight):
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


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"method": "nope"}, "valid: KD, DKD, DIST, FitNet, AT, RKD"),
        ({"method": {"KD": {"temperature": 0}}}, "temperature=0: must be a number > 0"),
        ({"method": {"DIST": {"temperature": -1}}}, "temperature=-1"),
        ({"method": {"DKD": {"gamma": 1}}}, "DKD takes alpha, beta, temperature, not gamma"),
        ({"method": {"KD": {"temperature": "hot"}}}, "KD.temperature=hot: must be a number"),
        ({"method": {"KD": {"temperature": None}}}, "KD.temperature=None: must be a number"),
        ({"method": {"DKD": {"beta": math.inf}}}, "DKD.beta=inf: must be a number"),
        ({"method": None}, "one of KD, DKD, DIST, FitNet, AT, RKD, not none"),
        ({"method": {"KD": {}, "AT": {}}}, "one of KD.*not KD, AT"),
        ({"method": "KD", "weight": -1}, "distillation.weight=-1"),
        ({"method": "KD", "weight": "much"}, "distillation.weight='much'"),
        ({"method": "KD", "task_weight": None}, "distillation.task_weight=None"),
    ],
)
def test_wrong_values_are_refused(losses, params, words):
    with pytest.raises(SgResnetsError, match=words.replace("(", r"\(")):
        losses.DistillationLoss(torch.nn.CrossEntropyLoss(), **params)


# Teacher and taps.


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


def test_compiled_and_in_bfloat16_it_taps_the_same(distiller, images):
    network = distiller(taps={"student": "layer2", "teacher": "layer2", "regressor": True})
    network.fit_to(images)
    expected = network(images)
    compiled = copy.deepcopy(network)
    compiled.compile(backend="aot_eager")
    for _ in range(2):
        output = compiled(images)
        torch.testing.assert_close(output.student_features[0], expected.student_features[0])
        torch.testing.assert_close(output.teacher_features[0], expected.teacher_features[0])
    assert set(compiled.state_dict()) == set(network.state_dict())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = network(images)
    assert half.student_features[0].dtype == torch.bfloat16
    torch.testing.assert_close(half.student_features[0].float(), expected.student_features[0], rtol=0.1, atol=0.1)


def test_under_bfloat16_the_loss_is_computed_in_float32(losses):
    output = losses.DistillationOutput(torch.randn(N, K).bfloat16(), torch.randn(N, K).bfloat16())
    loss = losses.DistillationLoss(torch.nn.CrossEntropyLoss(), "KD")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total, _ = loss(output, torch.zeros(N, dtype=torch.long))
    exact = losses.KD()(losses.DistillationOutput(*(z.float() for z in output[:2])), None)
    task = F.cross_entropy(output.student_output.float(), torch.zeros(N, dtype=torch.long))
    assert total.dtype == torch.float32
    torch.testing.assert_close(total, task + exact)


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
    ],
)
def test_wrong_taps_list_the_valid_ones(distiller, taps, words):
    with pytest.raises(SgResnetsError, match=words):
        distiller(taps=taps)


def _distil_in_two_processes(rank, port, folder):
    import os

    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    network, images, labels, loss = torch.load(Path(folder, "network.pt"), weights_only=False)
    parallel = DistributedDataParallel(network)
    half = slice(2 * rank, 2 * rank + 2)
    total, _ = loss(parallel(images[half]), labels[half])
    total.backward()
    buckets = sum(p.numel() for p in parallel.parameters())
    torch.save(({n: p.grad for n, p in network.named_parameters()}, buckets), Path(folder, f"{rank}.pt"))
    dist.destroy_process_group()


def test_two_processes_have_the_gradient_of_one(distiller, losses, images, tmp_path):
    """With features and a regressor; in eval mode, as batch-norm sees the process' own images only."""
    import socket

    import torch.multiprocessing as mp

    network = distiller(taps={"student": "layer2", "teacher": "layer2", "regressor": True})
    network.fit_to(images)
    labels = torch.tensor([1, 3, 5, 7])
    loss = losses.DistillationLoss(torch.nn.CrossEntropyLoss(), "FitNet", weight=10.0)
    torch.save((network.eval(), images, labels, loss), tmp_path / "network.pt")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_distil_in_two_processes, (port, str(tmp_path)), nprocs=2)
    loss(network(images), labels)[0].backward()
    for rank in range(2):
        gradients, buckets = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert buckets == sum(p.numel() for p in network.parameters())
        for name, parameter in network.named_parameters():
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-5, atol=1e-6)


# Whole runs.


@pytest.fixture(scope="module")
def teacher(host, tmp_path_factory):
    """The checkpoint of a small teacher, trained for three epochs."""
    from super_gradients import init_trainer
    from super_gradients.common.environment.cfg_utils import load_recipe

    init_trainer()
    folder = tmp_path_factory.mktemp("teacher")
    overrides = [f"ckpt_root_dir={folder}", "epochs=3", "batch_size=64", "lr=0.05", "+arch_params.depth=8"]
    overrides += [
        f"+dataset_params.{split}_dataset_params.max_samples={n}" for split, n in (("train", 1024), ("val", 256))
    ]
    host.Trainer.train_from_config(load_recipe("fashion_mnist_mini_resnet20", overrides=overrides))
    return next(folder.glob("*/RUN_*/ckpt_best.pth"))


@pytest.fixture
def distil(compose, tmp_path, host, teacher):
    """distil(overrides...) -> the run's folder: the shipped recipe, made small."""

    def run(*overrides):
        cfg = compose(
            f"ckpt_root_dir={tmp_path}",
            "teacher_architecture=resnet20_cifar",
            "+teacher_arch_params.depth=8",
            "+student_arch_params.depth=8",
            "student_arch_params.widths=[4,8,16]",
            "teacher_checkpoint_params.pretrained_weights=null",
            f"teacher_checkpoint_params.checkpoint_path={teacher}",
            "+dataset_params.train_dataset_params.max_samples=256",
            "+dataset_params.val_dataset_params.max_samples=100",
            "batch_size=64",
            *(() if any(o.startswith("epochs=") for o in overrides) else ("epochs=1",)),
            "lr=0.02",
            *overrides,
            recipe=RECIPE,
            tiny=False,
        )
        host.KDTrainer.train_from_config(cfg)
        return sorted(Path(cfg.ckpt_root_dir, cfg.experiment_name).glob("RUN_*"))[-1]

    return run


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


@pytest.mark.gpu
@pytest.mark.parametrize("method", METHODS)
def test_each_method_trains_on_a_gpu(distil, method):
    run = distil(f"distillation={method}", "training_hyperparams.ema=True")
    assert (run / "ckpt_best.pth").is_file() and json.loads((run / "teacher.json").read_text())["Accuracy"] > 0.2


def test_the_method_warms_up_over_the_epochs_of_a_run(distil, monkeypatch, losses):
    epochs, forward = [], losses.DistillationLoss.forward

    def recorded(self, output, target):
        if self.warmup_epochs:
            epochs.append(self.epoch)
        return forward(self, output, target)

    monkeypatch.setattr(losses.DistillationLoss, "forward", recorded)
    distil("epochs=2", "distillation.warmup_epochs=4")
    assert set(epochs) == {1, 2, 4}  # 4, no ramp, is the look before training


@pytest.mark.parametrize("method", METHODS)
def test_each_method_trains_a_student_that_stands_alone(distil, method, host):
    from super_gradients.training import models

    run = distil(f"distillation={method}")
    best = read(run / "ckpt_best.pth")
    student = models.get("resnet20_cifar", arch_params={**SMALL, "widths": [4, 8, 16]})
    student.load_state_dict(best["net"], strict=True)
    assert best["recipe"]["architecture"] == "resnet20_cifar"
    assert best["recipe"]["training_hyperparams"]["loss"] == {"CrossEntropyLoss": {"smooth_eps": 0.0}}
    assert all(value.isfinite().all() for value in best["net"].values())
    latest = read(run / "ckpt_latest.pth")
    wants = {"student", "regressors"} if method == "fitnet" else {"student"}
    assert {key.partition(".")[0] for key in latest["net"]} == wants


def test_a_run_is_evaluated_as_its_student(distil, run_python, tmp_path):
    from sg_resnets.runs.evaluate import evaluate_checkpoint

    same = "training_hyperparams.mixed_precision=False"  # as `evaluate` does
    run = distil("training_hyperparams.ema=True", "training_hyperparams.average_best_models=True", same)
    rows = {name: dict(evaluate_checkpoint(run / name, [])) for name in ("ckpt_best.pth", "ckpt_latest.pth")}
    for row in rows.values():
        assert row["model"] == "resnet20_cifar" and row["parameters"] == "4,934"
    assert float(rows["ckpt_best.pth"]["test Accuracy"]) == pytest.approx(read(run / "ckpt_best.pth")["acc"])
    done = run_python(
        "-m", "super_gradients.evaluate_checkpoint", "--experiment_name=fashion_mnist_mini_kd",
        f"--ckpt_root_dir={tmp_path}", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0 and rows["ckpt_latest.pth"]["test Accuracy"][:6] in done.stdout + done.stderr


def test_the_teachers_accuracy_is_measured_once(distil, teacher, capfd):
    from sg_resnets.runs.evaluate import evaluate_checkpoint

    same = "training_hyperparams.mixed_precision=False"  # as `evaluate` does
    run = distil("epochs=2", "dataset_params.val_dataset_params.max_samples=256", same)
    printed = capfd.readouterr().err
    report = json.loads((run / "teacher.json").read_text())
    rows = dict(evaluate_checkpoint(teacher, []))
    assert f"{report['Accuracy']:.4f}" == rows["test Accuracy"] and f"{report['parameters']:,}" == rows["parameters"]
    assert printed.count(f"The teacher, {report['parameters']:,} parameters: Accuracy {report['Accuracy']:.4f}") == 1


@pytest.mark.parametrize(
    ("metric", "greater_is_better", "student", "warns"),
    [
        ("Accuracy", True, 0.9, True),
        ("Accuracy", True, 0.89, False),
        ("Loss", False, 0.2, True),
        ("Loss", False, 0.4, False),
    ],
)
def test_a_student_as_good_as_its_teacher_is_told(host, capfd, metric, greater_is_better, student, warns):
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
    assert capfd.readouterr().err.count("The student has reached its teacher") == warns


def test_a_resumed_run_ends_as_one_that_was_not(distil, monkeypatch):
    """Student, regressor and optimiser, bit for bit."""
    from sg_resnets.host.distillation import TeacherFigures

    settings = ("distillation=fitnet", "epochs=2", "training_hyperparams.ema=True")
    whole = read(distil(*settings, "experiment_name=whole") / "ckpt_latest.pth")
    with monkeypatch.context() as patch:
        stop = lambda self, context: context.update_context(stop_training=True)  # noqa: E731
        patch.setattr(TeacherFigures, "on_validation_loader_end", stop)
        stopped = distil(*settings, "experiment_name=parts")
    assert read(stopped / "ckpt_latest.pth")["epoch"] == 1
    resumed = distil(*settings, "experiment_name=parts", "resume=True")
    assert resumed == stopped
    parts = read(resumed / "ckpt_latest.pth")
    assert parts["epoch"] == whole["epoch"] == 2
    for net in ("net", "ema_net"):
        assert all(torch.equal(value, parts[net][key]) for key, value in whole[net].items())


def test_the_hosts_entry_points_take_the_recipe(run_python, teacher, tmp_path):
    """`train_from_kd_recipe`, and `train_from_recipe` too, which the host's resume goes through."""
    overrides = [
        f"ckpt_root_dir={tmp_path}", "teacher_architecture=resnet20_cifar", "+teacher_arch_params.depth=8",
        "+student_arch_params.depth=8", "teacher_checkpoint_params.pretrained_weights=null",
        f"teacher_checkpoint_params.checkpoint_path={teacher.parent.parent}", "epochs=1", "batch_size=64",
        "+dataset_params.train_dataset_params.max_samples=128", "+dataset_params.val_dataset_params.max_samples=50",
    ]  # fmt: skip
    for entry in ("train_from_kd_recipe", "train_from_recipe"):
        done = run_python("-m", f"super_gradients.{entry}", f"--config-name={RECIPE}", *overrides, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]
    runs = sorted(tmp_path.glob("fashion_mnist_mini_kd/RUN_*"))
    assert len(runs) == 2 and all((run / "ckpt_best.pth").is_file() for run in runs)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["teacher_checkpoint_params.checkpoint_path=null"], "the teacher has no weights"),
        (["teacher_arch_params.num_classes=7"], "both must have the same classes"),
        (
            [
                "+teacher_checkpoint_params.checkpoint_num_classes=10",
                "teacher_arch_params.num_classes=7",
                "student_arch_params.num_classes=7",
            ],
            "its classifier is new",
        ),
        (
            [
                "+teacher_checkpoint_params.checkpoint_num_classes=10",
                "teacher_arch_params.num_classes=7",
                "student_arch_params.num_classes=7",
                "arch_params.teacher_input={size: 28}",
            ],
            "its classifier is new",
        ),
        (
            ["student_arch_params.num_classes=7", "+smoke=True", "teacher_checkpoint_params.checkpoint_path=null"],
            "the network has 7 classes.*set student_arch_params.num_classes=10",
        ),
        (["student_arch_params.in_channels=3"], "set student_arch_params.in_channels=1"),
        (
            [
                "teacher_architecture=resnet18",
                "~teacher_arch_params.depth",
                "+smoke=True",
                "teacher_checkpoint_params.checkpoint_path=null",
            ],
            "do not both take batches of",
        ),
        (["distillation=none"], "one of KD, DKD"),
        (["training_hyperparams.finetune=True"], "finetune=True freezes the student's body"),
        (
            ["distillation=at", "distillation.taps={student: fc, teacher: fc}"],
            r"AT compares feature maps \(N, C, H, W\)",
        ),
        (["distillation=fitnet", "distillation.taps={student: fc, teacher: fc, regressor: True}"], "a regressor takes"),
        (["distillation=fitnet", "distillation.taps.student=layer7"], "the student has no module 'layer7'"),
        (["distillation=at", "distillation.taps={student: [], teacher: []}"], "AT compares features: say which"),
        (["distillation=fitnet", "distillation.taps.regressor=False"], "set distillation.taps.regressor=True"),
        (["distillation=at", "distillation.taps.student=[layer1,layer2,layer2]"], "same height and width"),
        (["distillation.method.KD.temperature=0"], "temperature=0: must be a number > 0"),
        (["distillation.method=KDD"], "unknown distillation method 'KDD'"),
        (["teacher_architecture=resnet56_cifr"], "did you mean"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(distil, tmp_path, overrides, words):
    with pytest.raises(ValueError, match=words):
        distil(*overrides)
    assert not list(tmp_path.rglob("RUN_*"))
