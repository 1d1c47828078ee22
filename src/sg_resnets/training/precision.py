"""The number format of mixed precision: bfloat16 where the hardware computes in it, float16 on other GPUs."""

import torch

from sg_resnets.utils.errors import SgResnetsError
from sg_resnets.utils.hardware import computes_in_bfloat16

DTYPES = {"bfloat16": torch.bfloat16, "bf16": torch.bfloat16, "float16": torch.float16, "fp16": torch.float16}


def mixed_dtype(device: str, forced: str | None = None) -> torch.dtype | None:
    """The format for `mixed_precision: True` on `device`; None where float32 is the fastest there is.

    Args:
        device: "cpu", "cuda", "cuda:1".
        forced: the recipe's `mixed_precision_dtype`; on a CPU without the arithmetic bfloat16 is slow, but works.

    Raises:
        SgResnetsError: an unknown format, or float16 on a CPU, where small gradients vanish and nothing is faster.
    """
    if forced is not None:
        if forced not in DTYPES:
            raise SgResnetsError(f"mixed_precision_dtype={forced}: valid: bfloat16, float16; leave it out to choose")
        if DTYPES[forced] is torch.float16 and not device.startswith("cuda"):
            raise SgResnetsError("mixed_precision_dtype=float16 needs a GPU: on a CPU use bfloat16, or leave it out")
        return DTYPES[forced]
    if computes_in_bfloat16(device):
        return torch.bfloat16
    return torch.float16 if device.startswith("cuda") else None
