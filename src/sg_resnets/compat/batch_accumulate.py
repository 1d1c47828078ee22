"""`batch_accumulate: n` sums the gradients of n batches instead of averaging them: the learning rate is n times too
large (seen: update norm 0.0434 at batch 128 and 0.0867 at 2 x 64)."""

FAULT = "batch_accumulate sums the gradients instead of averaging them (Trainer._backward_step)"


def present() -> bool:
    import inspect

    from super_gradients import Trainer

    return "/ self.batch_accumulate" not in inspect.getsource(Trainer._backward_step)


def repair() -> None:
    from super_gradients.training.sg_trainer.sg_trainer import Trainer

    from sg_resnets.compat.patching import wrap_method

    def make(original):
        def _backward_step(self, loss, *args, **kwargs):
            return original(self, loss / self.batch_accumulate, *args, **kwargs)

        return _backward_step

    wrap_method(Trainer, "_backward_step", make)
