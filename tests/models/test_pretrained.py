"""Pretrained weights, by SuperGradients' own `models.get`. The files are stand-ins with the real names, checksums in
them and preprocessing: the real ones are 50 MB and more, and are not downloaded by a test."""

import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torchvision.models import ResNet18_Weights, ResNet50_Weights

from sg_resnets.models import pretrained as weights
from sg_resnets.models.zoo import ZOO
from sg_resnets.utils.errors import SgResnetsError
from support import SHIPPED


def test_imagenet_weights_come_with_their_preprocessing_and_class_names(resnet18, get):
    network = get("resnet18_v1b", pretrained_weights="imagenet").eval()
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(network(images), resnet18(images), rtol=1e-5, atol=1e-5)
    photo = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    result = network.predict(photo, fuse_model=False, fp16=False)
    from PIL import Image

    logits = resnet18(ResNet18_Weights.IMAGENET1K_V1.transforms()(Image.fromarray(photo))[None])
    best = logits.argmax().item()
    assert (
        result.prediction.label == best
        and result.class_names[best] == ResNet18_Weights.DEFAULT.meta["categories"][best]
    )
    assert result.prediction.confidence == pytest.approx(logits.softmax(1)[0, best].item(), rel=1e-3)


def test_another_number_of_classes_gets_a_fresh_head_and_other_channels_an_adapted_stem(resnet18, get):
    for channels in ({"num_input_channels": 1}, {"arch_params": {"in_channels": 1}}):
        network = get("resnet18_v1b", num_classes=7, pretrained_weights="imagenet", **channels).eval()
        assert network.fc.out_features == 7 and network.get_input_channels() == 1
        torch.testing.assert_close(network.layer4[1].conv2.weight, resnet18.layer4[1].conv2.weight)
        grey = torch.randn(2, 1, 64, 64)
        reference = resnet18.maxpool(resnet18.relu(resnet18.bn1(resnet18.conv1(grey.expand(-1, 3, -1, -1)))))
        ours = network.maxpool(network.relu(network.bn1(network.conv1(grey))))
        torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-5)
        with pytest.raises(RuntimeError, match="dataset processing parameters"):  # 7 classes have no ImageNet names
            network.predict(np.zeros((32, 32, 3), np.uint8), fuse_model=False, fp16=False)


def test_timms_weights_come_with_timms_preprocessing(hub, get):
    from PIL import Image

    reference = timm.create_model("resnet18d").eval()
    save_file(reference.state_dict(), hub / "resnet18d.ra2_in1k.safetensors")
    network = get("resnet18_v1d", pretrained_weights="timm:ra2_in1k").eval()
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(network(images), reference(images), rtol=1e-5, atol=1e-5)
    photo = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    cfg = timm.get_pretrained_cfg("resnet18d.ra2_in1k").to_dict()
    transform = timm.data.create_transform(**timm.data.resolve_data_config(pretrained_cfg=cfg))
    expected = reference(transform(Image.fromarray(photo))[None]).softmax(1).max().item()
    result = network.predict(photo, fuse_model=False, fp16=False)
    assert result.prediction.confidence == pytest.approx(expected, rel=1e-3)


def test_every_torchvision_checkpoint_of_a_residual_net_has_a_name():
    builders = [name for name in torchvision.models.list_models() if name.startswith(("resne", "wide_resnet"))]
    for builder in builders:
        names = [name for name, row in ZOO.items() if row.timm == builder]
        kinds = set(torchvision.models.get_model_weights(builder).__members__)
        theirs = {kind for kind, member in weights.TORCHVISION_KINDS.items() if member in kinds}
        assert names and theirs
        assert all(theirs == {kind for kind in weights.available(name) if "timm" not in kind} for name in names)


def test_every_row_with_a_twin_in_timm_lists_its_tags():
    tags = {name: weights.available(name) for name, row in ZOO.items() if row.timm}
    assert "timm:a1_in1k" in tags["resnet50_v1b"] and "timm:ra4_e3600_r224_in1k" in tags["resnet18_v2"]
    assert sum(any(kind.startswith("timm:") for kind in kinds) for kinds in tags.values()) > 50


@pytest.mark.parametrize(
    "name, kind, words",
    [
        ("resnet18_v1b", True, ["pretrained_weights=True: must be a name; valid: imagenet"]),
        ("resnet50_v1b", "timm:bamboo", ["no pretrained_weights 'timm:bamboo'"]),  # it has no classifier
        ("resnet18_v1b", "imagnet", ["no pretrained_weights 'imagnet' for resnet18_v1b", "did you mean imagenet?"]),
        ("resnet18_v1b", "imagenet_v2", ["no pretrained_weights 'imagenet_v2'", "valid: imagenet, timm:a1_in1k"]),
        ("resnet32_cifar", "imagenet", ["for resnet32_cifar: there are none"]),
        ("resnet18_v1b", "timm:a9_in1k", ["no pretrained_weights 'timm:a9_in1k'", "timm:a1_in1k"]),
        (
            "resnet50_v1b",
            "imagenet_v2",
            [ResNet50_Weights.IMAGENET1K_V2.url, "could not be downloaded (no network)", "put that file at"],
        ),
        ("resnet50_v1d", "timm:a1_in1k", ["timm/resnet50d.a1_in1k/resolve/main/model.safetensors", "put that file at"]),
    ],
)
def test_what_is_not_there_is_one_line(hub, get, name, kind, words):
    with pytest.raises(SgResnetsError) as error:
        get(name, num_classes=10, pretrained_weights=kind)
    assert "\n" not in str(error.value) and all(word in str(error.value) for word in words), error.value


def test_a_damaged_file_is_one_line(hub, get):
    name = Path(ResNet18_Weights.IMAGENET1K_V1.url).name
    for file, kind in ((name, "imagenet"), ("resnet18.a1_in1k.safetensors", "timm:a1_in1k")):
        (hub / file).write_bytes(b"half")
        with pytest.raises(SgResnetsError, match=f"{file} is damaged.*delete it"):
            get("resnet18_v1b", pretrained_weights=kind)


def test_weights_that_do_not_fit_and_a_missing_timm_are_one_line(resnet18, get, monkeypatch):
    with pytest.raises(SgResnetsError, match="imagenet weights of resnet18_v1b do not fit: leave out the arch_params"):
        get("resnet18_v1b", arch_params={"attention": "se"}, pretrained_weights="imagenet")
    with pytest.raises(SgResnetsError, match=r"that change the network \(addition\)"):  # the same keys and shapes
        get("resnet18_v1b", arch_params={"addition": "scaled"}, pretrained_weights="imagenet")
    get("resnet18_v1b", arch_params={"drop_path": 0.1, "head_dropout": 0.2}, pretrained_weights="imagenet")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(SgResnetsError, match=r"needs timm: pip install 'sg-resnets\[timm\]'"):
        get("resnet18_v1b", pretrained_weights="timm:a1_in1k")
    assert weights.available("resnet18_v1b") == ["imagenet"]


def test_shipped_checkpoints_are_small_and_fit_other_classes_and_channels(get):
    assert SHIPPED and sum(path.stat().st_size for path in SHIPPED) < 10e6
    network = get("resnet56_cifar", num_classes=7, pretrained_weights="fashion_mnist", arch_params={"in_channels": 3})
    grey = torch.randn(2, 1, 28, 28)
    reference = get("resnet56_cifar", num_classes=10, pretrained_weights="fashion_mnist").eval()
    assert network.fc.out_features == 7
    outputs = []
    for net, images in ((network, grey.repeat(1, 3, 1, 1)), (reference, grey)):
        net.fc = torch.nn.Identity()
        outputs.append(net.eval()(images))
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-4)
