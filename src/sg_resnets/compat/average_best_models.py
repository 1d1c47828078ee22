"""`average_best_models: True`, the default, ends the first epoch with 'UnpicklingError: Weights only load failed'.

The snapshots file holds a numpy array of metrics, which PyTorch >= 2.6 does not unpickle by itself. The four numpy
globals that it is made of are allowed, for this file only.
"""

FAULT = "average_best_models (the default) crashes in the first epoch: UnpicklingError for averaging_snapshots.pkl"


def present() -> bool:
    import inspect

    from super_gradients.training.utils.weight_averaging_utils import ModelWeightAveraging

    return "safe_globals" not in inspect.getsource(ModelWeightAveraging)


def repair() -> None:
    import numpy as np
    import torch
    from super_gradients.training.utils.weight_averaging_utils import ModelWeightAveraging

    from sg_resnets.compat.patching import wrap_method

    reconstruct = np.ones(1).__reduce__()[0]  # its module was renamed in numpy 2
    allowed: list = [np.ndarray, np.dtype, type(np.dtype(np.float64)), reconstruct]

    def make(original):
        def allowing(*args, **kwargs):
            with torch.serialization.safe_globals(allowed):
                return original(*args, **kwargs)

        return allowing

    wrap_method(ModelWeightAveraging, "__init__", make)
    wrap_method(ModelWeightAveraging, "_get_averaging_snapshots_dict", make)
