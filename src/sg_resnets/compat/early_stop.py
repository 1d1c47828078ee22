"""`EarlyStop` dies with 'AttributeError: np.Inf was removed in the NumPy 2.0 release'."""

FAULT = "EarlyStop uses np.Inf, which numpy 2 removed (training/utils/early_stopping.py)"


def present() -> bool:
    import numpy as np

    return not hasattr(np, "Inf")


def repair() -> None:
    from types import SimpleNamespace

    import numpy as np
    from super_gradients.training.utils import early_stopping

    early_stopping.np = SimpleNamespace(Inf=np.inf)  # all that this module takes from numpy
