"""Resuming forgets the best checkpoint.

`metric_to_watch` is None when the checkpoint is loaded, so the best metric stays infinite and no later epoch is ever
'better' (seen: accuracy 0.742 at epoch 12 while `ckpt_best.pth` stayed at epoch 2 with 0.117). The figure that
`ckpt_latest.pth` carries is also one best epoch old. `ckpt_best.pth` itself knows.
"""

import shutil
from pathlib import Path

FAULT = "resume loses the best checkpoint: metric_to_watch is None in Trainer._load_checkpoint_to_model"


def present() -> bool:
    import inspect

    from super_gradients import Trainer

    source = inspect.getsource(Trainer.train)
    return source.index("self._load_checkpoint_to_model()") < source.index("self.metric_to_watch = ")


def repair() -> None:
    import numpy as np
    from super_gradients.training.sg_trainer.sg_trainer import Trainer
    from super_gradients.training.utils.checkpoint_utils import read_ckpt_state_dict

    from sg_resnets.compat.patching import wrap_method

    def make(original):
        def _load_checkpoint_to_model(self):
            params = self.training_params
            self.metric_to_watch = params.metric_to_watch
            original(self)
            if not self.load_checkpoint:
                return
            self._eval_before_resume = False
            self.best_metric = -np.inf if params.greater_metric_to_watch_is_better else np.inf
            resumed_from = Path(params.resume_path or Path(self.checkpoints_dir_path, params.ckpt_name))
            best = resumed_from.with_name(params.ckpt_best_name)
            if best.is_file():
                state = read_ckpt_state_dict(str(best))
                if state["metrics"]["tracked_metric_name"] == self.metric_to_watch:
                    self.best_metric, self._best_ckpt_metrics = state["acc"], state["metrics"]
                here = Path(self.checkpoints_dir_path, params.ckpt_best_name)
                if not here.exists():  # resume_path starts a new run folder, which must hold its best from the start
                    shutil.copyfile(best, here)

        return _load_checkpoint_to_model

    wrap_method(Trainer, "_load_checkpoint_to_model", make)
