"""`torch_compile: True` wraps the network, so that its checkpoints have keys `_orig_mod.*`, which fit no network."""

FAULT = "torch_compile saves checkpoints with keys '_orig_mod.*' (Trainer._prep_net_for_train)"


def present() -> bool:
    import inspect

    from super_gradients import Trainer

    return "self.net = torch.compile(" in inspect.getsource(Trainer._prep_net_for_train)


def repair() -> None:
    from super_gradients.training.sg_trainer.sg_trainer import Trainer

    from sg_resnets.compat.patching import wrap_method

    def make(original):
        def _prep_net_for_train(self):
            wanted, self.training_params.torch_compile = self.training_params.torch_compile, False
            original(self)
            self.training_params.torch_compile = wanted
            if wanted:
                self.net.compile(**self.training_params.torch_compile_options)

        return _prep_net_for_train

    wrap_method(Trainer, "_prep_net_for_train", make)
