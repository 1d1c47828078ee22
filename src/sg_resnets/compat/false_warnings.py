"""Warnings that tell the user of a recipe nothing: they are about the host's own code.

'Passing num_classes through arch_params is deprecated' (the host's `train_from_config` passes it so, for every recipe);
'`torch.cuda.amp.autocast(args...)` is deprecated' (on every epoch; `sg_trainer.py`); 'initialize_param_groups and
update_param_groups usages are deprecated' (every network of the host has them, `optimizer_utils.py`).
"""

FAULT = "every run warns of the host's own deprecated calls (model_factory.py, sg_trainer.py, optimizer_utils.py)"


def present() -> bool:
    import inspect

    from super_gradients.training.sg_trainer import sg_trainer

    return "from torch.cuda.amp import" in inspect.getsource(sg_trainer)


def repair() -> None:
    import logging
    import warnings

    warnings.filterwarnings("ignore", r"`torch\.cuda\.amp\.", FutureWarning)
    warnings.filterwarnings("ignore", "initialize_param_groups and update_param_groups", DeprecationWarning)
    logging.getLogger("super_gradients.training.models.model_factory").addFilter(
        lambda record: not record.getMessage().startswith("Passing num_classes through arch_params")
    )
