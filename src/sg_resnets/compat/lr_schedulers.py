"""`OneCycleLR` is unknown, and the host's per-batch schedules (cosine, polynomial, exponential, function) lag one step,
as the rate for batch i is set after batch i's update. It is set before it here. And where an epoch has fewer steps than
`lr_warmup_steps`, the warm-up is cut to the epoch, but the cosine waits for all of them: on a small data set it never
falls. It is cut for both here."""

FAULT = (
    "OneCycleLR is not registered; per-batch schedules lag one step (LRCallbackBase runs after the update); the cosine "
    "waits for more warm-up steps than there are"
)


def present() -> bool:
    from super_gradients.common.registry.registry import TORCH_LR_SCHEDULERS

    return "OneCycleLR" not in TORCH_LR_SCHEDULERS


def repair() -> None:
    import torch
    from super_gradients.common.registry.registry import TORCH_LR_SCHEDULERS
    from super_gradients.training.utils.callbacks import LinearBatchLRWarmup, LRCallbackBase, Phase

    from sg_resnets.compat.patching import wrap_method

    TORCH_LR_SCHEDULERS["OneCycleLR"] = torch.optim.lr_scheduler.OneCycleLR

    def on_train_batch_start(self, context):
        if self.phase == Phase.TRAIN_BATCH_STEP:
            self(context)

    LRCallbackBase.on_train_batch_start = on_train_batch_start
    LRCallbackBase.on_train_batch_gradient_step_end = lambda self, context: None

    def of_an_epoch_at_most(original):
        def __init__(self, *, training_params, train_loader_len, lr_warmup_steps, **kwargs):
            training_params.lr_warmup_steps = steps = min(lr_warmup_steps, train_loader_len)  # the cosine reads it here
            original(
                self,
                training_params=training_params,
                train_loader_len=train_loader_len,
                lr_warmup_steps=steps,
                **kwargs,
            )

        return __init__

    wrap_method(LinearBatchLRWarmup, "__init__", of_an_epoch_at_most)
