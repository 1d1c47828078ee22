"""What several files of tests share: constants, small networks, images, and commands in several processes."""

import os
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import warm
from sg_resnets.data import InMemoryImages
from sg_resnets.models import ResNet
from sg_resnets.models.config import ResNetConfig
from sg_resnets.models.zoo import ZOO
from sg_resnets.runs.checkpoints import read
from sg_resnets.utils.paths import pretrained_path

ROOT = Path(__file__).parents[1]
SCRIPT = Path(sys.executable).with_name("sg-resnets")
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}  # of commands: tests run side by side

# Recipes, and what makes them small.

RECIPE = "--config-name=fashion_mnist_mini_resnet20"
KD_RECIPE = "kd_fashion_mnist_mini_resnet56_to_resnet20"
QAT_RECIPE = "qat_fashion_mnist_mini_resnet20"
# A net of 8 layers on 256 images: real recipes, real data, a second an epoch.
SMALL_RUN = [
    "batch_size=64",
    "+arch_params.depth=8",
    "+arch_params.widths=[4,8,16]",
    "+dataset_params.train_dataset_params.max_samples=256",
    "+dataset_params.val_dataset_params.max_samples=100",
]
MIXUP = (
    "+dataset_params.train_dataloader_params.collate_fn={_target_: super_gradients.training.datasets.mixup"
    ".CollateMixup, mixup_alpha: 0.4, num_classes: 2}"
)
TINY = ["epochs=1", "training_hyperparams.mixed_precision=False", *SMALL_RUN]

# Networks.

SMALL = ResNetConfig((1, 1, 1), (4, 8, 16))
GREY_8 = {"num_classes": 10, "in_channels": 1, "depth": 8}  # arch_params
# arch_params of a net with each kind of block, shortcut, stem, attention and so on.
KINDS = {
    "bottleneck": {"block": "bottleneck", "depth": 11},
    "full_preact": {"order": "full_preact"},
    "bn_after_addition": {"order": "bn_after_addition"},
    "plain": {"shortcut": "none"},
    "C": {"shortcut": "C"},
    "D": {"shortcut": "D"},
    "gate": {"addition": "exclusive_gate"},
    "scaled": {"addition": "scaled"},
    "se": {"attention": "se"},
    "eca": {"attention": "eca"},
    "cbam": {"attention": "cbam"},
    "rezero": {"scaling": "rezero"},
    "layerscale": {"scaling": "layerscale"},
    "skipinit": {"scaling": "skipinit", "norm": "none"},
    "fixup": {"scaling": "fixup", "norm": "none"},
    "silu": {"activation": "silu"},
    "blur": {"subsample": "blur"},
    "strided": {"stem": "strided", "depth": None, "depths": [1, 1, 1]},
    "deep": {"stem": "deep", "depth": None, "depths": [1, 1, 1]},
    "imagenet": {"stem": "imagenet", "depth": None, "depths": [1, 1, 1]},
    "rs": {"stem": "rs", "depth": None, "depths": [1, 1, 1]},
    "pooled": {"block": "pooled", "stem": "pooled", "depth": None, "depths": [1, 2, 1]},
    "groups": {"block": "bottleneck", "depth": 11, "groups": 2},
    "sk_basic": {"block": "sk_basic"},
    "sk_bottleneck": {"block": "sk_bottleneck", "depth": 11},
    "res2net": {"block": "res2net", "depth": 11, "splits": 2, "width_per_group": 32},
    "resnest": {"block": "resnest", "depth": 11, "splits": 2},
    "drop_path": {"drop_path": 0.5, "dropout": 0.3, "head_dropout": 0.3},
}
# What `make test` puts through everything: the smaller nets, and one large one of each kind; `make test-all`, all.
OF_EACH_KIND = (
    "resnet50_v1b",
    "resnet50_v2",
    "resnet_rs50",
    "resnext50_32x4d_v1b",
    "skresnet50",
    "res2net50_26w_4s",
    "resnest50",
)
LARGE = [
    name
    for name, row in ZOO.items()
    if sum(row.config.depths) > 27 or (row.parameters > 20e6 and name not in OF_EACH_KIND)
]
TWINS = {row.timm: name for name, row in ZOO.items() if row.timm}  # one name for each
SHIPPED = sorted(pretrained_path().glob("*.safetensors"))  # our own checkpoints


def named(names):
    return [pytest.param(name, marks=pytest.mark.slow if name in LARGE else ()) for name in names]


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def on_meta(config):
    with torch.device("meta"):
        return ResNet(config).eval()


def randomised(network):
    """Statistics, scales and biases that differ from 0 and 1, so that each layer's place counts."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    return network.eval()


def kept_shape(x, **arch):
    """Of a net with `arch`: the second block of its second stage, which keeps the shape, and its layers by name."""
    network = randomised(ResNet(replace(SMALL, depths=(2, 2, 2), **arch)))
    block = network.layer2[1]
    return network, block, dict(block.named_children())


def network_of(arch_params, batches):
    """A zoo's network of 8 layers with statistics that fit the data; otherwise untrained."""
    from super_gradients.training import models

    torch.manual_seed(0)
    network = models.get("custom_resnet", arch_params={**GREY_8, "widths": [8, 16, 32], **arch_params})
    with torch.no_grad():
        for _ in range(2):
            network.train()(batches[0][0])
    return network.eval()


def optimised(path, tmp_path):
    """How often each op stands in the graph that ONNX Runtime makes of the file."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)


# Images.


def random_images(count=64, channels=1, side=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, 256, (count, channels, side, side), dtype=torch.uint8, generator=generator)


def raw(images=None, **options):
    """A data set whose tensors are the pixel values themselves, and with no pixel that is 0 before augmentation."""
    images = random_images() if images is None else images
    channels = images.shape[1]
    scale = {"mean": [0.0] * channels, "std": [1 / 255] * channels}
    return InMemoryImages(images, torch.arange(len(images)) % 10, list("abcdefghij"), **{**scale, **options})


def everything(dataset):
    return dataset.__getitems__(range(len(dataset)))


# Runs, compared.


def differences(one, two, path=""):
    """Where two checkpoints differ in a bit."""
    if isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys():
        return [each for key in one for each in differences(one[key], two[key], f"{path}.{key}")]
    if isinstance(one, list | tuple) and type(one) is type(two) and len(one) == len(two):
        return [each for i, pair in enumerate(zip(one, two, strict=True)) for each in differences(*pair, f"{path}.{i}")]
    same = torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two
    return [] if same else [path]


def results(folder):
    """What a run has left, without what names it; a run that was killed before its first checkpoint does not count."""
    (run,) = (latest.parent for latest in folder.glob("*/RUN_*/ckpt_latest.pth"))
    states = {path.name: read(path) for path in run.glob("*.pth") if path.name != "ckpt_previous.pth"}
    for state in states.values():
        state.pop("recipe")
    curves = [line.split(",")[:5] for line in (run / "curves.csv").read_text().splitlines()]
    return {"curves": curves, **states}


# Several processes.

# Fixup has no batch-norm, which would see its own process' images only; in order, and without augmentation, one batch
# of 64 is two of 32.
SAME_WORK = [  # with SGD: Muon makes the rounding of a sum over processes a step as large as any
    "training_hyperparams=cosine_few_epochs", "epochs=2", "lr=0.05", "architecture=fixup_resnet56_cifar",
    "+arch_params.depth=8", "+arch_params.widths=[4,8,16]",
    "training_hyperparams.mixed_precision=False", "dataset_params.train_dataloader_params.shuffle=False",
    "dataset_params.train_dataset_params.horizontal_flip=False", "training_hyperparams.lr_warmup_epochs=0",
    "+dataset_params.train_dataset_params.max_samples=256", "+dataset_params.val_dataset_params.max_samples=101",
]  # fmt: skip
COMMAND = ["super_gradients.train_from_recipe", RECIPE, *SAME_WORK]


def two_processes(folder, launcher, *overrides):
    """The finished command and the run's folder."""
    starts = {"recipe": ["-m"], "torchrun": ["-m", "torch.distributed.run", "--nproc-per-node=2", "-m"]}
    split = ["batch_size=32", f"ckpt_root_dir={folder}", *(["multi_gpu=DDP", "num_gpus=2"] * (launcher == "recipe"))]
    done = warm.run([*starts[launcher], *COMMAND, *split, *overrides], folder, {**os.environ, **ENVIRONMENT})
    return done, sorted(folder.glob("*/RUN_*"))
