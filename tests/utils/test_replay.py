"""What is recorded on a GPU does what it does unrecorded. Without a GPU a recording stands in that runs the work anew:
of what surrounds it all is seen but the launches."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sg_resnets.data import in_memory
from sg_resnets.training.muon import Muon
from sg_resnets.utils import replay
from sg_resnets.utils.replay import Replayed

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(params=DEVICES)
def device(request, monkeypatch):
    """A device; `device.recordings` counts."""
    record = replay.record

    def stand_in(work):
        made = copy.deepcopy(work()) if device.gives else ()  # a recording does not run the work

        def again():
            for old, new in zip(made, work() or (), strict=True):
                old.copy_(new)

        return again, made

    def counted(work):
        device.recordings += 1
        return (stand_in if request.param == "cpu" else record)(work)

    device = SimpleNamespace(name=request.param, recordings=0, gives=True)
    monkeypatch.setattr(replay, "record", counted)
    return device


def test_a_function_gives_what_it_gave_and_is_recorded_anew_for_other_shapes_and_settings(device):
    factor = 2
    double = Replayed(lambda x, y: (x * factor + y,), torch.device(device.name))
    for call, size in enumerate([3, 3, 3, 3, 3, 5, 5, 5, 5]):
        x, y = torch.full((size,), float(call), device=device.name), torch.ones(size)
        assert torch.equal(double([x, y])[0].cpu(), torch.full((size,), 2.0 * call + 1))
    assert device.recordings == 2
    factor = 3
    assert torch.equal(double([x, y], factor)[0].cpu(), torch.full((5,), 25.0))
    assert torch.equal(double([x[:2], y[:2]], factor)[0].cpu(), torch.full((2,), 25.0))  # a smaller last batch
    for _ in range(3):
        double([x, y], factor)
    assert device.recordings == 3
    double([x[:2], y[:2]], factor), double([x, y], factor)
    assert device.recordings == 3


def test_batches_are_the_same_and_stay_what_they_were(device):
    options = {"crop_padding": 2, "horizontal_flip": True, "cutout": 8, "random_erasing": 0.5, "max_samples": 200}
    plain = in_memory("fashion_mnist_mini", **options)
    replayed = in_memory("fashion_mnist_mini", **options).to(device.name)
    replayed._replayed = Replayed(replayed._made, torch.device(device.name))
    every = [list(range(start, start + 8)) for start in range(0, 48, 8)]
    batches = [replayed.__getitems__(indices) for indices in every]
    for (images, labels), indices in zip(batches, every, strict=True):
        expected = plain.__getitems__(indices)
        torch.testing.assert_close(images.cpu(), expected[0])
        assert torch.equal(labels.cpu(), expected[1])
    assert device.recordings == 1
    changed = copy.copy(replayed)
    changed.crop_padding, changed.cutout = 0, 2
    other = in_memory("fashion_mnist_mini", **{**options, "crop_padding": 0, "cutout": 2})
    torch.testing.assert_close(changed.__getitems__(every[0])[0].cpu(), other.__getitems__(every[0])[0])
    plain.cutout = replayed.cutout = 4
    torch.testing.assert_close(replayed.__getitems__(every[0])[0].cpu(), plain.__getitems__(every[0])[0])


@pytest.mark.parametrize(
    "make",
    [
        lambda weights: torch.optim.SGD(weights, 0.1, momentum=0.9, nesterov=True, weight_decay=0.01, fused=True),
        lambda weights: Muon([{"params": weights[:1]}, {"params": weights[1:], "lr": 0.5}], lr=0.1, weight_decay=0.01),
    ],
    ids=["SGD", "Muon"],
)
def test_steps_follow_their_rates_and_what_else_is_set(make, device, host):
    from sg_resnets.host.gpu import ReplayedStep

    device.gives = False
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 36, 4)
    network = nn.Sequential(*layers).to(device.name)
    twin = copy.deepcopy(network)
    optimisers = [make(list(each.parameters())) for each in (network, twin)]
    watch = ReplayedStep()
    context = SimpleNamespace(optimizer=optimisers[0], device=device.name)
    original = optimisers[0].step
    watch.on_training_start(context)
    for step in range(12):
        images = torch.randn(5, 3, 8, 8, device=device.name)
        for each, optimiser in zip((network, twin), optimisers, strict=True):
            for group in optimiser.param_groups:
                group["lr"] *= 0.9
                group["weight_decay"] = 0.01 if step < 5 else 0.2
            if step == 7:
                optimiser.load_state_dict(optimiser.state_dict())
            each(images).square().mean().backward()
            optimiser.step()
            optimiser.zero_grad()
        torch.testing.assert_close(list(network.parameters()), list(twin.parameters()))
        assert [type(group["lr"]) for group in optimisers[0].param_groups] == [float] * len(optimisers[0].param_groups)
    assert device.recordings == 2
    watch.on_training_end(context)
    assert optimisers[0].step == original


@pytest.mark.filterwarnings("error")
def test_schedules_and_hooks_of_pytorch_find_the_step_that_they_look_for(device, host):
    from sg_resnets.host.gpu import ReplayedStep

    device.gives, calls = False, []
    weight = nn.Parameter(torch.ones(3, device=device.name))
    optimiser = torch.optim.SGD([weight], 1.0, momentum=0.9, fused=True)
    before = torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.5)
    context = SimpleNamespace(optimizer=optimiser, device=device.name)
    for watch in (ReplayedStep(), ReplayedStep()):  # the first training was broken off
        watch.on_training_start(context)
    after = torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.5)
    for step in range(8):
        if step == 5:
            optimiser.register_step_post_hook(lambda *_: calls.append(len(calls)))
        weight.grad = torch.ones_like(weight)
        optimiser.step()
        (before if step % 2 else after).step()
    assert calls == [0, 1, 2] and device.recordings == 1
    watch.on_training_end(context)
    assert not hasattr(watch, "replayed") and weight.isfinite().all()
    watch.on_training_start(context), watch.on_training_end(context)  # a run that is resumed at its end has no step
