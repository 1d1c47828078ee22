"""What our recipes can ask of the host's Trainer beyond what it offers, as keys of `training_hyperparams`."""

import torch
from super_gradients.training.sg_trainer.sg_trainer import Trainer
from super_gradients.training.utils import get_param

from sg_resnets.compat.patching import wrap_method


def extend_trainer() -> None:
    """`channels_last: True` keeps weights and activations in NHWC order, which convolutions are faster in."""

    def make(original):
        def _net_to_device(self):
            if get_param(self.training_params, "channels_last", False):
                self.net.to(memory_format=torch.channels_last)
            original(self)

        return _net_to_device

    wrap_method(Trainer, "_net_to_device", make)
