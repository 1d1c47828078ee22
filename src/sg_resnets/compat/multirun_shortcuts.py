"""With Hydra's `-m` the shortcuts `lr=`, `epochs=`, `batch_size=`, ... are ignored without a word."""

FAULT = "recipe shortcuts (lr=, epochs=, ...) ignored in sweeps: RecipeShortcutsCallback has on_run_start only"


def present() -> bool:
    from hydra.experimental.callback import Callback
    from super_gradients.common.environment.omegaconf_utils import RecipeShortcutsCallback

    return RecipeShortcutsCallback.on_job_start is Callback.on_job_start


def repair() -> None:
    from omegaconf import DictConfig, open_dict
    from super_gradients.common.environment.omegaconf_utils import RecipeShortcutsCallback

    from sg_resnets.compat.patching import wrap_recipe_entries

    def make(original):
        def run(cls, cfg, *args, **kwargs):
            if isinstance(cfg, DictConfig) and all(name in cfg for name in ("lr", "epochs", "batch_size")):
                with open_dict(cfg):
                    RecipeShortcutsCallback().on_run_start(cfg)  # the second time it changes nothing
            return original(cls, cfg, *args, **kwargs)

        return run

    wrap_recipe_entries(make)
