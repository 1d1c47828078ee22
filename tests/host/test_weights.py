"""SuperGradients' own weights, by its `models.get`: the files are stand-ins with their names, in its format."""

import os

import numpy as np
import pytest
import torch
from torch import nn

from sg_resnets.utils.errors import SgResnetsError

ADDRESS = "https://d2gjn4b69gu75n.cloudfront.net/models/"


@pytest.fixture
def theirs(get, downloads, tmp_path, monkeypatch):
    """SuperGradients' ResNet-18; a mirror has its weights as SuperGradients has saved them, after training with DDP."""
    network = get("resnet18", num_classes=1000).eval()
    with torch.no_grad():
        network.linear.bias.copy_(torch.randn(1000))
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    other = {key: torch.zeros_like(value) for key, value in state.items()}
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    checkpoint = {"net": other, "ema_net": state, "acc": np.float64(0.7), "epoch": 1, "optimizer_state_dict": {}}
    torch.save(checkpoint, mirror / "resnet18_imagenet.pth")
    monkeypatch.setenv("SG_RESNETS_MIRROR", str(mirror))
    return network


def test_every_file_is_asked_for_where_it_is(host):
    from super_gradients.training.pretrained_models import MODEL_URLS

    from sg_resnets.host.repairs.weights import SHA256

    assert len(MODEL_URLS) == 57
    assert all(url == f"{ADDRESS}{name}.pth" for name, url in MODEL_URLS.items())
    assert {f"{ADDRESS}{name}" for name in SHA256} <= {*MODEL_URLS.values()}
    assert all(len(digest) == 64 and int(digest, 16) for digest in SHA256.values())


def test_their_weights_come_from_a_mirror_and_give_the_same_outputs(theirs, get, tmp_path):
    network = get("resnet18", pretrained_weights="imagenet").eval()
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(network(images), theirs(images))
    assert (tmp_path / "checkpoints" / "resnet18_imagenet.pth.sha256").is_file()
    other = get("resnet18", num_classes=7, pretrained_weights="imagenet")
    assert other.linear.out_features == 7 and not network.head_is_new and other.head_is_new
    torch.testing.assert_close(other.layer4[1].conv2.weight, theirs.layer4[1].conv2.weight)


def test_a_checkpoint_at_an_address_is_read_in_the_same_way(theirs, get):
    old = "https://sghub.deci.ai/models/resnet18_imagenet.pth"  # as SuperGradients' recipes have it
    network = get("resnet18", num_classes=1000, checkpoint_path=old).eval()
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(network(images), theirs(images))


class Code:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    "options",
    [{"pretrained_weights": "imagenet"}, {"num_classes": 1000, "checkpoint_path": f"{ADDRESS}resnet18_imagenet.pth"}],
)
def test_code_in_a_file_is_not_run(get, hub, tmp_path, options):
    torch.save({"net": {}, "code": Code(tmp_path / "run")}, hub / "resnet18_imagenet.pth")
    with pytest.raises(SgResnetsError, match=r"resnet18_imagenet.pth was refused: it holds objects that run code"):
        get("resnet18", **options)
    assert not (tmp_path / "run").exists()


def test_a_damaged_file_is_refused_by_name(theirs, get, tmp_path):
    whole = (tmp_path / "mirror" / "resnet18_imagenet.pth").read_bytes()
    file = tmp_path / "checkpoints" / "resnet18_imagenet.pth"
    middle = len(whole) // 2
    for damaged in (whole[:-1000], whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]):
        file.write_bytes(damaged)
        with pytest.raises(SgResnetsError, match=rf"{file} is damaged or cut short .* delete it, and get it again"):
            get("resnet18", pretrained_weights="imagenet")


def test_another_file_than_the_published_is_refused(host, hub):
    from super_gradients.training.utils.checkpoint_utils import load_pretrained_weights

    (hub / "yolo_nas_s_coco.pth").write_bytes(b"another")
    with pytest.raises(SgResnetsError, match=r"not c1b1d914, which was published\): delete it; it comes from"):
        load_pretrained_weights(nn.Identity(), "yolo_nas_s", "coco")


@pytest.mark.parametrize(
    "name, options, file",
    [
        ("resnet50", {"pretrained_weights": "imagenet"}, f"{ADDRESS}resnet50_imagenet.pth"),
        ("mobilenet_v2", {"pretrained_weights": "imagenet", "num_classes": 5}, f"{ADDRESS}mobilenet_v2_imagenet.pth"),
        ("ppyoloe_s", {"pretrained_weights": "coco"}, f"{ADDRESS}ppyoloe_s_coco.pth"),  # not the backbone's too
        (
            "ppyoloe_s",
            {"num_classes": 5},
            "https://deci-pretrained-models.s3.amazonaws.com/ppyolo_e/CSPResNetb_s_pretrained.pth",
        ),
    ],
)
def test_without_a_network_a_line_says_which_file_goes_where(get, hub, name, options, file):
    with pytest.raises(SgResnetsError) as error:
        get(name, **options)
    assert str(error.value) == (
        f"{file} could not be downloaded (no network): put that file at {hub / file.rpartition('/')[2]}, or name a "
        "mirror with SG_RESNETS_MIRROR"
    )


def test_an_error_that_callers_catch_keeps_its_type(get):
    from super_gradients.training.utils.checkpoint_utils import MissingPretrainedWeightsException

    with pytest.raises(MissingPretrainedWeightsException, match="resnet101_imagenet"):
        get("resnet101", pretrained_weights="imagenet")


def test_their_resnet_teaches_ours(theirs, compose, host, tmp_path, monkeypatch):
    from sg_resnets.host import distillation

    teachers, prepare = [], distillation.prepare_distillation
    monkeypatch.setattr(
        distillation,
        "prepare_distillation",
        lambda network, *args: teachers.append(network.teacher) or prepare(network, *args),
    )
    options = [f"ckpt_root_dir={tmp_path}", "+debug=smoke", "+student_arch_params.widths=[4,4,4,4]"]
    options += ["teacher_architecture=resnet18", "teacher_checkpoint_params.pretrained_weights=imagenet"]
    recipe = {"recipe": "kd_imagenet_resnet34_to_resnet18", "tiny": False}
    host.Trainer.train_from_config(compose(*options, **recipe))
    torch.testing.assert_close(teachers[0].linear.bias, theirs.linear.bias)
    assert list(tmp_path.glob("*/RUN_*/teacher.json"))
    with pytest.raises(SgResnetsError, match="the teacher's weights are for another number of classes"):
        host.Trainer.train_from_config(compose(*options, "student_arch_params.num_classes=7", **recipe))


def test_files_of_one_name_from_two_addresses_are_two(host, tmp_path, monkeypatch):
    from sg_resnets.host.repairs.weights import read_url

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    for number in (1, 2):
        (tmp_path / f"r{number}").mkdir()
        torch.save({"net": {"w": torch.tensor(float(number))}}, tmp_path / f"r{number}" / "ckpt_best.pth")
    values = [read_url((tmp_path / f"r{number}" / "ckpt_best.pth").as_uri())["net"]["w"].item() for number in (1, 2)]
    assert values == [1.0, 2.0]
