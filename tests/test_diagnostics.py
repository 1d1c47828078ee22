"""The course's measurements, at a tiny size: against what is known exactly, and through the host's Trainer."""

import csv
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from sg_resnets.course import experiments
from sg_resnets.course.experiments import Budget
from sg_resnets.course.setups import COURSE, Setup, Trained, load_images, untrained
from sg_resnets.diagnostics.gradient_flow import first_to_last, gradient_flow
from sg_resnets.diagnostics.identity import branch_responses, deepen
from sg_resnets.diagnostics.landscape import filter_normalised_direction, loss_line, loss_surface, nonconvex_share
from sg_resnets.diagnostics.lesion import accuracy, draw_paths, lesion, path_gradients, swapped, without
from sg_resnets.diagnostics.shattered import calibrated, gradient_autocorrelation
from sg_resnets.utils.errors import SgResnetsError


@pytest.fixture(scope="module")
def batch():
    return load_images(COURSE, train=True, count=64)


def test_the_course_sees_14_pixels_of_the_same_pictures(batch):
    images, labels = batch
    assert images.shape == (64, 1, 14, 14) and labels.bincount().min() >= 6
    assert load_images(COURSE)[0].shape == (2000, 1, 14, 14) and load_images(COURSE, train=True)[0].shape[0] == 6000


def test_the_gradient_of_a_deep_plain_net_explodes_with_batch_norm_and_vanishes_without(batch):
    def ratio(of="output", **arch):
        return first_to_last(gradient_flow(untrained("resnet56_cifar", **arch), *batch), of)

    plain, residual = ratio(shortcut="none", of="weights"), ratio(of="weights")
    assert plain > 20 * residual and residual < 30
    assert ratio(shortcut="none") > 100 and ratio(shortcut="none", norm="none") < 0.1


def test_gradient_flow_is_autograds_and_changes_nothing(batch):
    network = untrained("resnet20_cifar")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    flow = gradient_flow(network, *batch)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    F.cross_entropy(network.train()(batch[0]), batch[1]).backward()
    block = network.layer2[1]
    expected = math.hypot(block.conv1.weight.grad.norm().item(), block.conv2.weight.grad.norm().item())
    assert flow[4].name == "layer2.1" and flow[4].weights == pytest.approx(expected, rel=1e-4)


def test_a_linear_map_does_not_shatter_and_a_deep_plain_net_does(batch):
    images, _ = batch

    class Cube(torch.nn.Module):  # its gradient, 3 x^2, changes smoothly along a line
        def forward(self, x):
            return x.flatten(1) ** 3

    smooth = gradient_autocorrelation(Cube(), images[0], images[1], points=64)
    assert smooth[0] == 1 and smooth[2] > 0.9
    deep = calibrated(untrained("plain56_cifar"), images)
    assert abs(gradient_autocorrelation(deep, images[0], images[1], points=64)[2]) < 0.3


def test_calibrated_batch_norm_has_the_statistics_of_the_images(batch):
    network = calibrated(untrained("resnet20_cifar"), batch[0])
    mean = network.conv1(batch[0]).mean((0, 2, 3))
    torch.testing.assert_close(network.bn1.running_mean, mean, rtol=1e-4, atol=1e-5)
    assert not network.training


def test_responses_are_those_of_the_branches(batch):
    network = calibrated(untrained("resnet20_cifar"), batch[0])
    responses = branch_responses(network, batch[0])
    x = network.relu(network.bn1(network.conv1(batch[0])))
    branch = network.layer1[0].residual(x)
    assert responses[0].deviation == pytest.approx(branch.std().item(), rel=1e-4)
    assert responses[0].relative == pytest.approx((branch.norm() / x.norm()).item(), rel=1e-4)
    plain = branch_responses(calibrated(untrained("plain20_cifar"), batch[0]), batch[0])
    assert len(plain) == 9 and plain[0].relative == 0 and plain[0].deviation > 0


@pytest.mark.parametrize("arch", [{}, {"order": "full_preact"}, {"shortcut": "B", "attention": "se"}])
def test_a_deeper_net_starts_as_the_shallower_one_and_trains_on(batch, arch):
    """He et al. 2015, section 1, the solution by construction."""
    network = calibrated(untrained("resnet20_cifar", **arch), batch[0])
    deeper = deepen(network, (9, 9, 9))
    assert len(deeper.blocks()) == 27
    torch.testing.assert_close(deeper(batch[0]), network(batch[0]), rtol=1e-6, atol=1e-6)
    F.cross_entropy(deeper.train()(batch[0]), batch[1]).backward()
    last = deeper.layer3[8].conv2 if arch.get("order") else deeper.layer3[8].bn2
    assert last.weight.grad.abs().sum() > 0


def test_deepen_says_what_cannot_be(batch):
    for network, depths, words in (
        (untrained("resnet20_cifar"), (2, 3, 3), "at least as many blocks as .3, 3, 3."),
        (untrained("plain20_cifar"), (9, 9, 9), "a plain net has no shortcut"),
        (untrained("resnet20_cifar", order="bn_after_addition"), (9, 9, 9), "does not copy its input"),
    ):
        with pytest.raises(SgResnetsError, match=words):
            deepen(network, depths)


@pytest.mark.parametrize("architecture", ["resnet20_cifar", "plain20_cifar", "preact_resnet20_cifar"])
def test_a_deleted_block_is_its_shortcut_and_comes_back(batch, architecture):
    network = calibrated(untrained(architecture), batch[0])
    before, x = network(batch[0]), torch.randn(2, 8, 14, 14)
    with without(network, "layer1.1"):
        unchanged = x.clone()
        kept = network.layer1[1](x)
        assert torch.equal(x, unchanged)
        assert torch.equal(kept, x if "preact" in architecture else torch.relu(x))
        assert not torch.equal(network(batch[0]), before)
    with without(network, "layer2.0"):  # changes the shape: every second pixel, zero channels
        changed = network.layer2[0](x)
        assert changed.shape == (2, 16, 7, 7) and changed[:, :4].abs().sum() == 0
    assert torch.equal(network(batch[0]), before)
    with pytest.raises(SgResnetsError, match="the network has no block 'layer9': it has layer1"):
        without(network, "layer9")


def test_lesion_counts_each_block_and_swapping_changes_places(batch):
    network = calibrated(untrained("resnet20_cifar"), batch[0])
    accuracies = lesion(network, *batch)
    assert list(accuracies) == ["none"] + [f"layer{i}.{j}" for i in (1, 2, 3) for j in (0, 1, 2)]
    assert accuracies["none"] == accuracy(network, *batch)
    first, second = network.layer2[1], network.layer2[2]
    with swapped(network, "layer2.1", "layer2.2"):
        assert network.layer2[1] is second and network.layer2[2] is first
    assert network.layer2[1] is first
    for pair in (("layer2.0", "layer2.1"), ("layer1.1", "layer2.1")):
        with pytest.raises(SgResnetsError, match="cannot be swapped"), swapped(network, *pair):
            pass


def test_the_longest_path_is_the_net_without_shortcuts_and_long_paths_carry_less(batch):
    images, labels = batch
    network = calibrated(untrained("resnet20_cifar"), images)
    paths = path_gradients(network, images, labels, repeats=2)
    assert [length for length, _ in paths] == list(range(1, 10))
    x = images.clone().requires_grad_()
    y = network.relu(network.bn1(network.conv1(x)))
    for block in network.blocks():
        y = torch.relu(block.residual(y))
    assert "Of 9 branches most paths take 4 or 5;" in draw_paths(paths).get_suptitle()
    (gradient,) = torch.autograd.grad(F.cross_entropy(network.fc(y.mean((2, 3))), labels), x)
    assert paths[-1][1] == pytest.approx(gradient.norm().item(), rel=1e-3)
    with pytest.raises(SgResnetsError, match="one path only"):
        path_gradients(untrained("plain20_cifar"), images, labels)


def test_directions_have_filters_as_long_as_the_networks(batch):
    network = untrained("resnet20_cifar")
    direction = filter_normalised_direction(network, torch.Generator().manual_seed(0))
    for name, weight in network.named_parameters():
        if weight.ndim > 1:
            torch.testing.assert_close(direction[name].flatten(1).norm(dim=1), weight.flatten(1).norm(dim=1))
        else:
            assert not direction[name].any()


def test_the_centre_of_the_landscape_is_the_network_which_stays_as_it_is(batch):
    network = calibrated(untrained("resnet20_cifar"), batch[0])
    before = network(batch[0])
    expected = F.cross_entropy(before, batch[1])
    positions, line = loss_line(network, *batch, steps=5)
    assert positions.tolist() == [-1, -0.5, 0, 0.5, 1] and line[2] == pytest.approx(expected.item(), rel=1e-5)
    _, surface = loss_surface(network, *batch, steps=3)
    assert surface.shape == (3, 3) and surface[1, 1] == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(surface[1], line[[0, 2, 4]], rtol=1e-4, atol=1e-5)  # the same first direction
    assert torch.equal(network(batch[0]), before)


def test_a_bowl_is_convex_and_waves_are_not():
    x = torch.linspace(-1, 1, 21)
    bowl = x[:, None] ** 2 + 2 * x**2
    waves = 5 + torch.cos(12 * x)[:, None] * torch.ones(21)  # along one axis, half of the time
    assert nonconvex_share(bowl) == 0 and nonconvex_share(waves) == pytest.approx(0.25, abs=0.05)
    assert nonconvex_share(torch.where(bowl < 1, bowl, 100 - bowl)) < 0.2  # what is far up does not count


def test_callbacks_write_tables_and_pictures_from_any_recipe(train):
    _, run = train(
        "training_hyperparams.phase_callbacks=[TrainingCurves,GradientFlow,ActivationStatistics]", "epochs=2"
    )
    with open(run / "gradient_flow.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["block"] for row in rows] == ["layer1.0", "layer2.0", "layer3.0"] * 2
    assert {row["epoch"] for row in rows} == {"epoch 1", "epoch 2"} and all(float(row["norm"]) > 0 for row in rows)
    with open(run / "activations.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 and all(0 < float(row["zeros"]) < 1 and float(row["deviation"]) > 0 for row in rows)
    assert (run / "gradient_flow.png").stat().st_size > 5000 and (run / "activations.png").stat().st_size > 5000


def test_a_budget_buys_seeds():
    assert list(Budget(0.0).seeds(5)) == [0]
    assert list(Budget(10.0).seeds(3)) == [0, 1, 2]


TINY = Setup(COURSE.recipe, {**COURSE.arch_params, "widths": [4, 4, 8]}, COURSE.dataset, 14, 600, 1)


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_every_experiment_runs_end_to_end_and_says_what_it_showed(name, tmp_path, host, monkeypatch):
    from matplotlib.image import imread

    from sg_resnets.course import claims
    from sg_resnets.runs.curves import EpochRecord

    def train_nothing(jobs, folder):  # the training itself is SuperGradients', and is tested below
        assert all(job.setup is TINY for job in jobs)
        record = EpochRecord(1, 2.0, 0.3 + 0.1 * len(jobs), 2.0, 0.3, 1.0, 1.0)
        images, _ = load_images(TINY, train=True, count=100)
        nets = [calibrated(untrained(job.architecture, job.seed, TINY), images) for job in jobs]
        return [Trained(network, [record]) for network in nets]

    monkeypatch.setattr(experiments, "train_all", train_nothing)
    monkeypatch.setattr(
        experiments, "load_images", lambda setup, train=False, count=None: load_images(setup, train, 60)
    )
    for holds, verdict in ((True, "This run supports it."), (False, "This run does not support it.")):
        monkeypatch.setattr(claims, name, lambda *figures, holds=holds: holds)
        finding = experiments.run_experiment(name, 0.001, tmp_path / name, TINY)
        lines = (tmp_path / name / f"{name}.md").read_text().splitlines()
        assert lines[0] == f"# {name}" and finding.claim in lines[1] and lines[-1] == verdict
    with open(tmp_path / name / f"{name}.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(finding.rows) > 3
    picture = imread(tmp_path / name / f"{name}.png")
    assert picture.shape[1] > 600 and picture[..., :3].std() > 0.05  # something is drawn


def test_the_command_trains_and_prints_the_paragraph(sg_resnets_command, tmp_path):
    """The real thing, once: two processes train with the host's Trainer."""
    code = (
        "from pathlib import Path\n"
        "from sg_resnets.course import setups\n"
        "setup = setups.Setup(setups.COURSE.recipe, {'in_channels': 1}, 'fashion_mnist_mini', 14, 600, 1)\n"
        "small = ('arch_params.widths=[4,4,8]', 'dataset_params.train_dataset_params.max_samples=600')\n"
        "jobs = [setups.Job(f'{kind}20_cifar', 3, small, setup=setup) for kind in ('plain', 'resnet')]\n"
        "if __name__ == '__main__':\n"
        "    for network, records in setups.train_all(jobs, Path('runs')):\n"
        "        print(network.config.shortcut, network.config.widths, len(records), records[0].train_accuracy > 0)\n"
    )
    import subprocess
    import sys

    (tmp_path / "small.py").write_text(code)
    done = subprocess.run([sys.executable, "small.py"], cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.stdout.splitlines() == ["none (4, 4, 8) 1 True", "A (4, 4, 8) 1 True"], done.stderr[-2000:]
    runs = sorted(path.name for path in Path(tmp_path, "runs").iterdir())
    assert len(runs) == 2 and all("seed_3" in name or "seed" in name for name in runs)


@pytest.mark.parametrize(
    "args, words",
    [
        (["degradatoin"], "unknown experiment 'degradatoin': did you mean degradation"),
        (["lesion", "--budget", "0"], "--budget=0.0: must be a number > 0"),
    ],
)
def test_a_wrong_experiment_is_one_line(sg_resnets_command, tmp_path, args, words):
    done = sg_resnets_command("experiment", *args, cwd=tmp_path)
    assert done.returncode == 1 and words in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "experiments").exists()
