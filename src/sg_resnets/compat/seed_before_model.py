"""The host builds the network before it sets the seed, which therefore does not reach the initial weights."""

FAULT = "seed set after the network is built (Trainer.train): every seed starts from the same, unseeded weights"


def present() -> bool:
    import inspect

    from super_gradients import Trainer

    return "random_seed" not in inspect.getsource(Trainer.train_from_config)


def repair() -> None:
    from super_gradients.training.utils.utils import random_seed

    from sg_resnets.compat.patching import wrap_recipe_entries

    def make(original):
        def run(cls, cfg, *args, **kwargs):
            # The same for all processes of a distributed run: it starts from one network.
            random_seed(is_ddp=False, device="cpu", seed=cfg["training_hyperparams"].get("seed", 42))
            return original(cls, cfg, *args, **kwargs)

        return run

    wrap_recipe_entries(make, training_only=True)
