"""What a recipe of another's may have built."""

import pytest

from sg_resnets.utils.errors import SgResnetsError
from sg_resnets.utils.foreign_code import is_known, is_refused, refuse_foreign_code, refusing


@pytest.mark.parametrize(
    "name",
    [
        "sg_resnets.models.ResNet",
        "super_gradients.training.sg_trainer.StrictLoad",
        "super_gradients.training.datasets.mixup.CollateMixup",
        "torch.nn.CrossEntropyLoss",
        "torch.nn.functional.cross_entropy",
        "torch.optim.AdamW",
        "torchvision.transforms.ToTensor",
        "torchvision.models.resnet18",
        "torchmetrics.Accuracy",
        "torch.nn.NoSuchLayer",  # Hydra says so
    ],
)
def test_what_is_of_the_known_packages_is_built(name):
    assert is_known(name)


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "builtins.exec",
        "subprocess.run",
        "torch.os.system",
        "torch.load",
        "torch.hub.load",
        "torch.serialization.load",
        "torch.multiprocessing.spawn",
        "torch.multiprocessing.Process",
        "torch.ops.load_library",
        "sg_resnets.utils.files.os.remove",
        "torchmetrics_of_mine.Accuracy",
        "my_blocks.Wide",
        "${name}",
        "",
    ],
)
def test_what_can_run_code_is_not(name):
    assert not is_known(name)


def test_modules_that_are_named_are_the_users_own():
    assert is_known("my_blocks.Wide", ["my_blocks"]) and not is_known("my_blocks2.Wide", ["my_blocks"])


def test_it_is_found_wherever_it_stands():
    recipe = {"a": [{"b": {"_target_": "torch.nn.ReLU", "c": {"_target_": "os.system", "command": "touch x"}}}]}
    with pytest.raises(SgResnetsError, match=r"^a\.0\.b\.c\._target_=os.system: .* alone: if you trust it"):
        refuse_foreign_code(recipe)


def test_a_command_refuses_until_it_is_told_not_to():
    assert not is_refused()
    with refusing():
        with refusing(False):
            assert not is_refused()
        assert is_refused()
