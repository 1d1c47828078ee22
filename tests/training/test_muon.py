"""The optimiser Muon against its definition, and against PyTorch's AdamW."""

import copy

import pytest
import torch
from torch import nn

from sg_resnets.training.muon import Muon, orthogonal
from sg_resnets.utils.errors import SgResnetsError


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(channels, 16, 3, bias=False) for channels in (1, 16, 16)]
    return nn.Sequential(*convolutions, nn.BatchNorm2d(16), nn.AvgPool2d(4), nn.Flatten(), nn.Linear(16, 10))


def train(network: nn.Module, optimiser: torch.optim.Optimizer, steps: int, seed: int = 1) -> list[torch.Tensor]:
    torch.manual_seed(seed)
    for _ in range(steps):
        optimiser.zero_grad()
        network(torch.randn(8, 1, 10, 10)).square().sum().backward()
        optimiser.step()
    return [p.detach().clone() for p in network.parameters()]


def test_a_factor_for_each_channel_is_a_vector():
    """LayerScale's is (C, 1, 1): it takes AdamW's step, not a matrix'."""
    moved = []
    for shape in ((16,), (16, 1, 1)):
        factor = nn.Parameter(torch.ones(shape))
        factor.grad = torch.linspace(-1, 1, 16).view(shape)
        Muon([factor], lr=0.01).step()
        moved.append(factor.detach().flatten())
    assert torch.equal(*moved)


@pytest.mark.parametrize("rows, columns", [(16, 144), (144, 16), (10, 64), (16, 9), (32, 32)])
def test_orthogonal_keeps_the_singular_vectors_and_makes_the_values_one(rows, columns):
    torch.manual_seed(0)
    many = torch.randn(3, rows, columns)
    for matrix, found in zip(many, orthogonal(many), strict=True):
        u, s, v = torch.linalg.svd(matrix, full_matrices=False)
        inner = u.T @ found @ v.T
        values = inner.diagonal()
        assert ((values > 0.6) & (values < 1.25))[s > 0.02 * s.norm()].all()
        assert (inner - values.diag()).abs().max() < 1e-4
        torch.testing.assert_close(u @ inner @ v, found, atol=1e-4, rtol=0)


@pytest.mark.parametrize("rows, columns", [(16, 144), (144, 16), (64, 576)])
def test_the_iteration_on_the_squares_is_newton_and_schulz_in_double_precision(rows, columns):
    """Of matrices whose singular values reach over five decades, as those of gradients do."""
    torch.manual_seed(0)
    u, s, v = torch.linalg.svd(torch.randn(rows, columns), full_matrices=False)
    matrix = u * torch.logspace(0, -5, len(s)) @ v
    x = matrix.double() / matrix.double().norm()
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x - 4.7750 * square @ x + 2.0315 * square @ square @ x
    found = orthogonal(matrix[None])[0].double()
    assert (found - x).norm() < 2e-3 * x.norm()


def test_what_is_too_large_to_be_squared_moves_nothing_and_bfloat16_is_squared_in_float32():
    assert torch.equal(orthogonal(torch.full((1, 4, 9), 1e20)), torch.zeros(1, 4, 9))
    matrix = torch.randn(1, 16, 144, generator=torch.Generator().manual_seed(0)).bfloat16()
    found = orthogonal(matrix)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), orthogonal(matrix.float()), rtol=1e-2, atol=1e-3)


def test_a_step_goes_along_the_orthogonal_momentum_with_the_size_of_adamw(network):
    lr, momentum, decay = 0.1, 0.9, 0.5
    optimiser = Muon(network.parameters(), lr=lr, momentum=momentum, weight_decay=decay)
    before = train(network, optimiser, 2)
    averages = {p: copy.deepcopy(optimiser.state[p]) for p in network.parameters()}
    after = train(network, optimiser, 1, seed=2)
    for parameter, old, new in zip(network.parameters(), before, after, strict=True):
        if parameter.ndim == 1:
            continue
        average = momentum * averages[parameter]["momentum_buffer"] + (1 - momentum) * parameter.grad
        ahead = momentum * average + (1 - momentum) * parameter.grad
        direction = orthogonal(ahead.reshape(1, len(old), -1)).reshape(old.shape)
        longer = max(len(old), old.numel() // len(old))
        torch.testing.assert_close(new, (1 - lr * decay) * old - lr * 0.2 * longer**0.5 * direction)
        size = ((1 - lr * decay) * old - new).square().mean().sqrt() / lr
        assert 0.1 < size < 0.25  # Liu et al. 2025, section 2.2: AdamW's are 0.2 to 0.4


def test_vectors_are_moved_as_by_adamw(network):
    twin = copy.deepcopy(network)
    for layer in (*network, *twin):
        if not isinstance(layer, nn.BatchNorm2d):
            layer.requires_grad_(False)
    settings = {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.9)}
    ours, theirs = Muon(network.parameters(), **settings), torch.optim.AdamW(twin.parameters(), **settings)
    torch.testing.assert_close(train(network, ours, 5), train(twin, theirs, 5))
    assert not torch.equal(network[3].weight, torch.ones(16))


def test_what_has_no_gradient_stays_and_no_gradient_at_all_is_no_direction(network):
    network[0].requires_grad_(False)
    first = network[0].weight.clone()
    optimiser = Muon(network.parameters(), lr=0.1, weight_decay=0.5)
    train(network, optimiser, 1)
    assert torch.equal(network[0].weight, first)
    network[1].weight.grad.zero_()
    optimiser.state[network[1].weight]["momentum_buffer"].zero_()
    old = network[1].weight.detach().clone()
    optimiser.step()
    torch.testing.assert_close(network[1].weight.detach(), 0.95 * old)


def test_channels_last_changes_nothing(network):
    twin = copy.deepcopy(network).to(memory_format=torch.channels_last)
    plain = train(network, Muon(network.parameters()), 3)
    last = train(twin, Muon(twin.parameters()), 3)
    torch.testing.assert_close(last, plain, atol=1e-5, rtol=1e-4)


def test_a_stored_optimiser_goes_on_as_the_one_that_ran_on(network, tmp_path):
    optimiser = Muon(network.parameters(), lr=0.05, weight_decay=0.1)
    train(network, optimiser, 3)
    twin = copy.deepcopy(network)
    torch.save(optimiser.state_dict(), tmp_path / "state.pth")
    again = Muon(twin.parameters())
    again.load_state_dict(torch.load(tmp_path / "state.pth"))
    assert all(torch.equal(a, b) for a, b in zip(train(network, optimiser, 2), train(twin, again, 2), strict=True))


@pytest.mark.parametrize("wrong", [{"momentum": 1}, {"momentum": "high"}, {"betas": (0.9, -1)}, {"weight_decay": -0.1}])
def test_what_cannot_be_meant_is_refused_in_a_line(network, wrong):
    (name,) = wrong
    with pytest.raises(SgResnetsError, match=f"Muon: {name}.*: must be a number >= 0"):
        Muon(network.parameters(), **wrong)


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"lr": -1}, "lr=-1: must be a number >= 0"),
        ({"eps": -1}, "eps=-1: must be a number >= 0"),
        ({"betas": 0.9}, r"betas=0.9: must be two numbers, such as \[0.9, 0.95\]"),
        ({"nesterov": "no"}, "nesterov='no': must be True or False"),
        ({"momentum": 7}, "momentum=7: must be a number >= 0 and < 1"),
    ],
)
def test_a_groups_values_are_checked_as_the_optimisers_are(network, wrong, words):
    with pytest.raises(SgResnetsError, match=f"Muon: {words}"):
        Muon(network.parameters(), **wrong)
    with pytest.raises(SgResnetsError, match=f"Muon: {words}"):
        Muon([{"params": network.parameters(), **wrong}])


@pytest.mark.gpu
def test_on_a_gpu_a_step_is_that_of_the_cpu(network):
    twin = copy.deepcopy(network).cuda()
    train(network, Muon(network.parameters()), 1)
    optimiser = Muon(twin.parameters())
    for mine, other in zip(twin.parameters(), network.parameters(), strict=True):
        mine.grad = other.grad.cuda()
    before = [p.detach().clone() for p in twin.parameters()]
    optimiser.step()
    for old, new, expected in zip(before, twin.parameters(), network.parameters(), strict=True):
        assert (new.detach() - expected.cuda()).norm() < 0.1 * (new.detach() - old).norm()
