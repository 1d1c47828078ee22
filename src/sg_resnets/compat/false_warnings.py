"""Warnings that tell the user of a recipe nothing: they are about the host's own code.

'`torch.cuda.amp.autocast(args...)` is deprecated', on every epoch: the new name is put in its place. 'Passing
num_classes through arch_params is deprecated': the host's own `train_from_config` passes it so, for every recipe.
"""

FAULT = "every run warns of the host's own deprecated calls (torch.cuda.amp; num_classes in arch_params)"


def present() -> bool:
    import torch.cuda.amp
    from super_gradients.training.sg_trainer import sg_trainer

    return sg_trainer.autocast is torch.cuda.amp.autocast


def repair() -> None:
    import functools
    import logging
    import warnings

    import torch.cuda.amp

    from sg_resnets.compat.patching import replace_everywhere

    for name in ("autocast", "GradScaler"):
        replace_everywhere(name, getattr(torch.cuda.amp, name), functools.partial(getattr(torch.amp, name), "cuda"))
    warnings.filterwarnings("ignore", r"`torch\.cuda\.amp\.", FutureWarning)  # where it is called by its full name
    logging.getLogger("super_gradients.training.models.model_factory").addFilter(
        lambda record: not record.getMessage().startswith("Passing num_classes through arch_params")
    )
