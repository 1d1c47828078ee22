"""What is left of a distillation without its teacher: the student's weights, and a recipe that builds it alone."""

from collections.abc import Mapping
from typing import Any

_STUDENT, _REGRESSORS = "student.", "regressors."
_OPTIMISERS = ("optimizer_state_dict", "scaler_state_dict", "torch_scheduler_state_dict")
_OF_THE_RUN = ("student_architecture", "student_arch_params", "student_checkpoint_params", "run_teacher_on_eval")


def is_distillation(recipe: Any) -> bool:
    """Whether a recipe is one for SuperGradients' KDTrainer."""
    return "student_architecture" in recipe.keys()  # noqa: SIM118 - of a DictConfig, ??? too


def student_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe that trains the student alone; who taught it, and how, stays written in it. Other recipes stay."""
    if not is_distillation(recipe):
        return dict(recipe)
    training = dict(recipe["training_hyperparams"])
    loss = training.get("loss")
    if isinstance(loss, Mapping) and "DistillationLoss" in loss:
        training["loss"] = loss["DistillationLoss"]["task"]
    return {
        **{key: value for key, value in recipe.items() if key not in _OF_THE_RUN},
        "architecture": recipe["student_architecture"],
        "arch_params": recipe["student_arch_params"],
        "checkpoint_params": recipe["student_checkpoint_params"],
        "training_hyperparams": training,
    }


def student_alone(state: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint of a distillation as one of the student; any other stays as it is."""
    if not _is_distillers(state.get("net")):
        return dict(state)
    alone = {key: value for key, value in state.items() if key not in _OPTIMISERS}
    for name in {"net", "ema_net"} & set(state):
        alone[name] = {
            key.removeprefix(_STUDENT): value for key, value in state[name].items() if key.startswith(_STUDENT)
        }
    if "recipe" in state:
        alone["recipe"] = student_recipe(state["recipe"])
    return alone


def _is_distillers(net: Any) -> bool:
    return isinstance(net, Mapping) and bool(net) and all(key.startswith((_STUDENT, _REGRESSORS)) for key in net)
