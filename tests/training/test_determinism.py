"""Training that gives the same twice."""

import pytest
import torch

from sg_resnets.training.determinism import deterministic
from sg_resnets.utils.errors import SgResnetsError


def test_an_operation_that_cannot_give_the_same_is_named():
    named = pytest.raises(SgResnetsError, match=r"^deterministic=True: put_ gives other results each time")
    with named, deterministic(True):
        torch.zeros(3).put_(torch.tensor([1]), torch.tensor([2.0]), accumulate=False)
    assert not torch.are_deterministic_algorithms_enabled()


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="size"), deterministic(True):
        torch.zeros(3) + torch.zeros(4)


def test_where_it_is_not_asked_for_nothing_changes():
    with deterministic(False):
        assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.gpu
@pytest.mark.parametrize("recipe", ["image_folder_resnet18", "fashion_mnist_mini_resnet20"])
def test_on_a_gpu_the_weights_are_the_same_twice(recipe, train, tmp_path):
    from sg_resnets.data.image_folder import noise_folder

    folder = [f"dataset_params.train_dataset_params.root={noise_folder(2)}", "arch_params.num_classes=2"]
    given = ["epochs=2", "training_hyperparams.deterministic=True", "batch_size=4"]
    given += folder if recipe == "image_folder_resnet18" else []
    weights = [
        train(*given, f"ckpt_root_dir={tmp_path / name}", recipe=recipe, tiny=False)[0].state_dict() for name in "ab"
    ]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
