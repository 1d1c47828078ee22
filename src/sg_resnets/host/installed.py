"""All that is changed in SuperGradients, in the order in which it is put in place: of two patches on one call, the
later one is around the earlier."""

from sg_resnets.host import datasets, distillation, entry, int8, pretrained, registration, trainer
from sg_resnets.host.patching import Repair
from sg_resnets.host.repairs import (
    callbacks,
    checkpoints,
    distributed,
    experiments,
    gradients,
    interrupts,
    loggers,
    losses,
    names,
    overrides,
    own_recipes,
    precision,
    processing,
    samplers,
    schedules,
    stack,
    waiting,
    weights,
)

REPAIRS: tuple[Repair, ...] = (
    registration.ENTRIES,
    datasets.ENTRIES,
    *callbacks.REPAIRS,
    *processing.REPAIRS,
    *gradients.REPAIRS,
    *schedules.REPAIRS,
    *stack.REPAIRS,
    *waiting.REPAIRS,
    *checkpoints.REPAIRS,
    *weights.REPAIRS,
    *experiments.REPAIRS,
    *loggers.REPAIRS,
    *losses.REPAIRS,
    *names.REPAIRS,
    *overrides.REPAIRS,
    *own_recipes.REPAIRS,
    *precision.REPAIRS,
    *samplers.REPAIRS,
    *interrupts.REPAIRS,
    *pretrained.REPAIRS,
    *trainer.REPAIRS,
    *distributed.REPAIRS,
    *distillation.REPAIRS,
    *int8.REPAIRS,
    *entry.REPAIRS,
)
