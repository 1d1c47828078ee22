"""`mixed_precision: True` means float16 on CUDA and nothing on a CPU, and validation runs outside of it.

Here it means the format that the hardware computes in (`sg_resnets.precision`), or that of `mixed_precision_dtype`;
losses are computed in float32, and scaled for float16 alone; validation while training runs in the format of training.
"""

FAULT = "mixed precision is float16 on CUDA only, and validation does not use it"


def present() -> bool:
    import inspect

    from super_gradients import Trainer

    return "not supported on CPU" in inspect.getsource(Trainer._initialize_mixed_precision)


def repair() -> None:
    import torch
    from super_gradients.common.abstractions.abstract_logger import get_logger
    from super_gradients.common.data_types.enum import MultiGPUMode
    from super_gradients.common.environment.device_utils import device_config
    from super_gradients.training.sg_trainer import sg_trainer
    from super_gradients.training.utils import get_param
    from torch.utils._pytree import tree_map_only

    from sg_resnets.compat.patching import replace_everywhere, wrap_method
    from sg_resnets.precision import mixed_dtype

    logger = get_logger(__name__)
    dtype = None  # of the training that goes on

    def autocast(enabled=True):
        on = enabled and dtype is not None
        return torch.autocast(torch.device(device_config.device).type, dtype=dtype if on else None, enabled=on)

    def choose(original):
        def _initialize_mixed_precision(self, enabled):
            nonlocal dtype
            device = str(device_config.device)
            dtype = mixed_dtype(device, get_param(self.training_params, "mixed_precision_dtype")) if enabled else None
            if dtype is torch.bfloat16 and device_config.multi_gpu == MultiGPUMode.DATA_PARALLEL:
                dtype = torch.float16  # all that its threads take over
            if enabled:
                logger.info(f"Mixed precision on {device}: {dtype or 'none, float32 is the fastest here'}")
            original(self, dtype is torch.float16)
            return dtype is not None

        return _initialize_mixed_precision

    def as_in_training(original):
        def evaluate(self, *args, **kwargs):
            with autocast(bool(self.training_params and self.training_params.mixed_precision)):
                return original(self, *args, **kwargs)

        return evaluate

    def in_float32(original):
        def _get_losses(self, outputs, targets):
            if dtype is None:
                return original(self, outputs, targets)
            with torch.autocast(torch.device(device_config.device).type, enabled=False):
                return original(self, tree_map_only(torch.Tensor, full, outputs), targets)

        return _get_losses

    def full(tensor):
        return tensor.float() if tensor.dtype is dtype else tensor

    replace_everywhere("autocast", sg_trainer.autocast, autocast)
    wrap_method(sg_trainer.Trainer, "_initialize_mixed_precision", choose)
    wrap_method(sg_trainer.Trainer, "evaluate", as_in_training)
    wrap_method(sg_trainer.Trainer, "_get_losses", in_float32)
