"""SuperGradients' cross-entropy is PyTorch's, with weights and smoothing, and takes weights as recipes give them."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sg_resnets.utils.errors import SgResnetsError


@pytest.fixture
def loss_of(host):
    from super_gradients.common.factories.losses_factory import LossesFactory

    def make(**params):
        return lambda *inputs: LossesFactory().get({"CrossEntropyLoss": params})(*inputs)[0]

    return make


@pytest.mark.parametrize("weight", [None, [1.0, 5.0, 0.5]])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mixed", [False, True])
def test_weights_and_smoothing_are_pytorchs(loss_of, weight, smoothing, mixed):
    torch.manual_seed(0)
    logits, labels = torch.randn(8, 3), torch.randint(3, (8,))
    labels = torch.lerp(nn.functional.one_hot(labels, 3).float(), torch.full((8, 3), 1 / 3), 0.3) if mixed else labels
    expected = nn.CrossEntropyLoss(weight and torch.tensor(weight), label_smoothing=smoothing)(logits, labels)
    torch.testing.assert_close(loss_of(weight=weight, smooth_eps=smoothing)(logits, labels), expected)
    as_tensor = weight and torch.tensor(weight)
    torch.testing.assert_close(loss_of(weight=as_tensor, smooth_eps=smoothing)(logits, labels), expected)


def test_another_distribution_to_smooth_to_stays_supergradients(loss_of):
    logits, labels, to = torch.randn(8, 3), torch.randint(3, (8,)), torch.tensor([0.5, 0.5, 0.0])
    target = torch.lerp(nn.functional.one_hot(labels, 3).float(), to.expand(8, 3), 0.2)
    smoothed = loss_of(smooth_eps=0.2)(logits, labels, to)
    torch.testing.assert_close(smoothed, nn.CrossEntropyLoss()(logits, target))


DATA = SimpleNamespace(class_names=["ant", "bee", "cow"], targets=[0, 0, 0, 0, 1, 1, 1, 2])


@pytest.mark.parametrize(
    ("asked", "weights"), [("balanced", [8 / 12, 8 / 9, 8 / 3]), ([1, 2, 3], [1, 2, 3]), ({"cow": 7}, [1, 1, 7])]
)
def test_weights_are_balanced_listed_or_named(host, asked, weights):
    from sg_resnets.host.repairs.losses import with_class_weights

    plain = with_class_weights({"loss": "CrossEntropyLoss", "criterion_params": {"weight": asked}}, DATA)
    assert plain["criterion_params"]["weight"] == pytest.approx(weights)
    distilled = {"DistillationLoss": {"task": {"CrossEntropyLoss": {"weight": asked}}, "method": {"KD": {}}}}
    inside = with_class_weights({"loss": distilled}, DATA)["loss"]["DistillationLoss"]
    assert inside["task"]["CrossEntropyLoss"]["weight"] == pytest.approx(weights) and inside["method"] == {"KD": {}}
    assert distilled["DistillationLoss"]["task"]["CrossEntropyLoss"]["weight"] is asked


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ([1, 2], r"weight=\[1, 2\]: must be balanced, 3 numbers >= 0, one for each class, or numbers by"),
        ([1, 2, -3], "must be balanced"),
        ("even", "weight=even: must be balanced"),
        ({"caw": 2}, "the data has no class 'caw': did you mean cow"),
        ({"cow": "much"}, "must be balanced"),
    ],
)
def test_wrong_weights_are_one_line(host, asked, words):
    from sg_resnets.host.repairs.losses import class_weights

    with pytest.raises(SgResnetsError, match=words):
        class_weights(asked, DATA.class_names, DATA)
    with pytest.raises(SgResnetsError, match="there is no training image of cow"):
        class_weights("balanced", DATA.class_names, SimpleNamespace(targets=[0, 1]))


def test_a_recipe_weighs_its_classes(train):
    weigh = "+training_hyperparams.criterion_params.weight"
    of_one_size = "dataset_params.train_dataset_params.max_samples=250"
    _, even = train(f"{weigh}=balanced", of_one_size, "experiment_name=even")
    _, none = train(of_one_size, "experiment_name=none")
    _, bags = train(f"{weigh}={{Bag: 100.0}}", of_one_size, "experiment_name=bags")
    losses = [(run / "curves.csv").read_text().splitlines()[1].split(",")[1] for run in (even, none, bags)]
    assert float(losses[0]) == pytest.approx(float(losses[1]), rel=1e-6) and losses[2] != losses[1]
    with pytest.raises(SgResnetsError, match="must be balanced, 10 numbers"):
        train(f"{weigh}=[1,2]")
