"""The loss around a network: directions, lines and surfaces."""

import pytest
import torch
import torch.nn.functional as F

from sg_resnets.course.setups import untrained
from sg_resnets.diagnostics.landscape import filter_normalised_direction, loss_line, loss_surface, nonconvex_share
from sg_resnets.diagnostics.shattered import calibrated


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
