"""Repairs that are seen without training; the others are in tests/integration."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, SubsetRandomSampler, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from sg_resnets.host.installed import REPAIRS
from sg_resnets.host.repairs import distributed


def test_every_repair_has_a_name_of_its_own_and_says_which_fault(host):
    names = [repair.name for repair in REPAIRS]
    assert len(set(names)) == len(names) and host._sg_resnets_active
    assert all(repair.fault and repair.changes for repair in REPAIRS)


def test_atomic_checkpoints(host, tmp_path, monkeypatch):
    from super_gradients.common.sg_loggers import base_sg_logger
    from super_gradients.training.utils import weight_averaging_utils

    for module in (base_sg_logger, weight_averaging_utils):
        path = tmp_path / f"{module.__name__}.pth"
        module.torch.save({"whole": torch.ones(3)}, path)

        class Killed:
            def __reduce__(self):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            module.torch.save({"half": torch.zeros(3), "and": Killed()}, path)
        assert torch.equal(torch.load(path)["whole"], torch.ones(3))
    assert len(list(tmp_path.iterdir())) == 2  # nothing half-written is left


def test_zero_weight_decay_holds_for_scalars_and_factors_of_a_channel(host):
    from super_gradients.training.utils import HpmStruct
    from super_gradients.training.utils.optimizer_utils import build_optimizer

    from sg_resnets.models import ResNet
    from sg_resnets.models.zoo import ZOO

    small = ZOO["resnet20_cifar"].config.override(depth=8)
    for network in (ResNet(small.override(scaling="fixup", norm="none")), ResNet(small.override(scaling="layerscale"))):
        params = HpmStruct(
            optimizer="SGD",
            optimizer_params={"weight_decay": 1e-4},
            zero_weight_decay_on_bias_and_bn=True,
            finetune=False,
        )
        groups = build_optimizer(network, 0.1, params).param_groups
        spared = {id(p) for group in groups if group["weight_decay"] == 0 for p in group["params"]}
        decays = {name.rpartition(".")[0] for name, p in network.named_parameters() if id(p) not in spared}
        layers = {name for name, m in network.named_modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)}
        assert decays == layers
        assert all(id(network.get_submodule(name).weight) not in spared for name in layers)


def test_torchvision_processing(host):
    from super_gradients.training.datasets.classification_datasets.cifar import (
        get_torchvision_transforms_equivalent_processing as used,
    )
    from super_gradients.training.datasets.classification_datasets.torchvision_utils import (
        get_torchvision_transforms_equivalent_processing as processing,
    )
    from torchvision import transforms as t

    assert used is processing
    steps = processing(t.Compose([t.Resize([256, 256]), t.CenterCrop(224), t.ToTensor()]))
    assert steps[:2] == [{"Resize": {"size": 256}}, {"CenterCrop": {"size": 224}}]


class HardExamples(DistributedSampler):
    """The user's own: the first four alone."""

    def __iter__(self):
        return iter(range(self.rank, 4, self.num_replicas))


def subset(data, **place):
    from super_gradients.training.datasets.samplers import DistributedSamplerWrapper

    return DistributedSamplerWrapper(SubsetRandomSampler([1, 5, 8, 3, 7]), **place)


@pytest.mark.parametrize(
    ("make", "expected"),
    [(DistributedSampler, list(range(11))), (subset, [1, 3, 5, 7, 8]), (HardExamples, [0, 1, 2, 3])],
)
def test_evaluation_shows_each_sample_once_and_leaves_the_loader_as_it_was(make, expected, monkeypatch):
    drawn = []

    def broadcast(mine, source):  # all get what the first one has drawn
        drawn.extend([] if drawn else mine)
        mine[0] = drawn[0]

    monkeypatch.setattr(distributed.dist, "broadcast_object_list", broadcast)
    data = TensorDataset(torch.arange(11))
    seen = []
    for rank in range(3):
        loader = DataLoader(data, batch_size=2, sampler=make(data, num_replicas=3, rank=rank, shuffle=False))
        before = loader.batch_sampler.sampler
        with distributed.each_once(loader):
            seen += [int(i) for (batch,) in loader for i in batch]
        assert loader.batch_sampler.sampler is before
    assert sorted(seen) == expected


def test_unused_parameters_are_searched_where_there_may_be_some(host):
    from super_gradients.training.utils.utils import HpmStruct

    from sg_resnets.models import ResNet
    from support import SMALL

    def may(network, **params):
        return distributed.may_leave_unused(network, HpmStruct(**params))

    class Own(torch.nn.Module):
        pass

    ours = ResNet(SMALL)
    assert not may(ResNet(replace(SMALL, drop_path=0.2)), initial_lr=0.1)
    assert not may(ours, initial_lr=0.1) and not may(ours, initial_lr={"fc": 0.1, "default": 0.2})
    assert may(ours, initial_lr={"fc": 0.1, "default": 0}) and may(ours, finetune=True) and may(Own(), initial_lr=0.1)


def test_a_sampler_that_the_user_has_seeded_keeps_its_seed(host):
    from types import SimpleNamespace

    from sg_resnets.host.repairs.samplers import seed_epoch

    for given, used in ((7, 7), (0, 42)):
        sampler = DistributedSampler(range(8), num_replicas=2, rank=0, seed=given)
        loader = DataLoader(range(8), batch_size=2, sampler=sampler)
        trainer = SimpleNamespace(training_params=SimpleNamespace(seed=42), train_loader=loader)
        seed_epoch(lambda *args: None, trainer, SimpleNamespace(epoch=0))
        assert sampler.seed == used


def test_boxes_are_drawn_in_the_colours_of_their_classes(host):
    from super_gradients.training.utils.predict import DetectionPrediction, ImageDetectionPrediction

    boxes, labels = np.array([[4, 20, 20, 36], [30, 20, 46, 36]]), np.array([0, 1])
    found = DetectionPrediction(boxes, "xyxy", np.array([0.9, 0.8]), labels, (64, 64))
    image = np.zeros((64, 64, 3), np.uint8)
    prediction = ImageDetectionPrediction(image=image, class_names=["cat", "dog"], prediction=found)
    drawn = prediction.draw(box_thickness=2, show_confidence=False)
    cat, dog, nothing = (tuple(drawn[row, column].tolist()) for row, column in ((28, 4), (28, 30), (60, 60)))
    assert len({cat, dog, nothing}) == 3 and nothing == (0, 0, 0)


def test_data_adapters_store_numpys_numbers(host, tmp_path):
    from data_gradients.utils.utils import write_json

    write_json(str(tmp_path / "cache.json"), {"classes": np.int64(3), "mean": np.ones(2)})
    assert json.loads((tmp_path / "cache.json").read_text()) == {"classes": 3, "mean": [1.0, 1.0]}


def test_a_log_that_cannot_be_written_is_said_once(host, capsys):
    import logging

    handler = logging.FileHandler("/dev/full")
    for _ in range(3):
        handler.handle(logging.LogRecord("x", logging.INFO, "x.py", 1, "a line", (), None))
    said = capsys.readouterr().err
    assert said == "/dev/full cannot be written any more (No space left on device)\n"


def test_accuracy_is_torchmetrics(host):
    """Of labels and of mixtures of them; a label below 0 is refused, on a GPU when the epoch has ended."""
    from super_gradients.common.registry.registry import METRICS
    from super_gradients.training.metrics import Accuracy

    assert METRICS["Accuracy"] is Accuracy
    ours, theirs = Accuracy(), Accuracy.__mro__[1]()
    torch.manual_seed(0)
    for batch, mixed in ((8, False), (5, False), (4, True)):
        scores, labels = torch.randn(batch, 3), torch.randint(3, (batch,))
        target = torch.nn.functional.one_hot(labels).float() if mixed and labels.max() == 2 else labels
        ours.update(scores, target), theirs.update(scores, target)
        assert ours.compute() == theirs.compute()
    with pytest.raises(ValueError, match="Accuracy: a label is -1: labels are from 0"):
        ours.update(torch.randn(2, 3), torch.tensor([0, -1]))
    for wrong in (torch.zeros(8, 1, dtype=torch.int64), torch.zeros(8)):
        with pytest.raises(ValueError, match="target"):
            ours.update(torch.randn(8, 3), wrong)
    pixels = torch.randn(2, 3, 4, 4), torch.randint(3, (2, 4, 4))
    ours, theirs = Accuracy(), Accuracy.__mro__[1]()
    ours.update(*pixels), theirs.update(*pixels)
    assert ours.compute() == theirs.compute()
