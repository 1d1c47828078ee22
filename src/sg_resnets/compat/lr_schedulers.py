"""`OneCycleLR` is unknown, and the host's per-batch schedules (cosine, polynomial, exponential, function) lag one step,
as the rate for batch i is set after batch i's update. It is set before it here."""

FAULT = "OneCycleLR is not registered; per-batch schedules lag one step (LRCallbackBase runs after the update)"


def present() -> bool:
    from super_gradients.common.registry.registry import TORCH_LR_SCHEDULERS

    return "OneCycleLR" not in TORCH_LR_SCHEDULERS


def repair() -> None:
    import torch
    from super_gradients.common.registry.registry import TORCH_LR_SCHEDULERS
    from super_gradients.training.utils.callbacks import LRCallbackBase, Phase

    TORCH_LR_SCHEDULERS["OneCycleLR"] = torch.optim.lr_scheduler.OneCycleLR

    def on_train_batch_start(self, context):
        if self.phase == Phase.TRAIN_BATCH_STEP:
            self(context)

    LRCallbackBase.on_train_batch_start = on_train_batch_start
    LRCallbackBase.on_train_batch_gradient_step_end = lambda self, context: None
