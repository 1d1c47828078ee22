"""`EarlyStop` cannot be used: 'AttributeError: `np.Inf` was removed in the NumPy 2.0 release', and from a recipe
'EarlyStop doesn't support phase: VALIDATION_EPOCH_END', as it compares the phase's name with the phase."""

FAULT = "EarlyStop uses np.Inf, which numpy 2 removed, and takes no phase from YAML (training/utils/early_stopping.py)"


def present() -> bool:
    import numpy as np

    return not hasattr(np, "Inf")


def repair() -> None:
    from types import SimpleNamespace

    import numpy as np
    from super_gradients.training.utils import early_stopping
    from super_gradients.training.utils.callbacks import Phase

    from sg_resnets.compat.patching import wrap_method

    early_stopping.np = SimpleNamespace(Inf=np.inf)  # all that this module takes from numpy

    def make(original):
        def __init__(self, phase, *args, **kwargs):
            original(self, Phase.from_string(phase) if isinstance(phase, str) else phase, *args, **kwargs)

        return __init__

    wrap_method(early_stopping.EarlyStop, "__init__", make)
