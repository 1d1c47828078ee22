"""`loss: FocalLoss` is unknown to recipes: the class is there but was never registered."""

FAULT = "FocalLoss is not registered (training/losses/focal_loss.py)"


def present() -> bool:
    from super_gradients.common.registry.registry import LOSSES

    return "FocalLoss" not in LOSSES


def repair() -> None:
    from super_gradients.common.registry.registry import register_loss
    from super_gradients.training.losses import FocalLoss

    register_loss("FocalLoss")(FocalLoss)
