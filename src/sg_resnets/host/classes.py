"""The classes of the data, and those that loaded weights know: whichever comes second, they are compared."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from sg_resnets.host.current_run import CurrentRun, current_run
from sg_resnets.models import ResNet
from sg_resnets.runs.checkpoints import refuse_other_classes
from sg_resnets.runs.find import find_checkpoint
from sg_resnets.utils.errors import MisfitError


def note_data(names: Sequence[str]) -> None:
    """Note the classes of the current run's data.

    Raises:
        MisfitError: weights were loaded that know others.
    """
    run = current_run()
    if run is not None:
        run.class_names = names
        for network, path, state in run.loaded:
            _settle(run, network, path, state)


def note_weights(network: nn.Module, path: str, state: Mapping[str, Any]) -> None:
    """Note a checkpoint that was loaded into a network.

    Raises:
        MisfitError: the data has other classes.
    """
    run = current_run()
    if run is not None:
        described = {"processing_params": state.get("processing_params")}
        run.loaded.append((network, path, described))
        _settle(run, network, path, described)


def _settle(run: CurrentRun, network: nn.Module, path: str, state: Mapping[str, Any]) -> None:
    """Refuse other classes, or where a recipe says how many the checkpoint has, to start from it anew, give it a new
    classifier."""
    if run.recipe.get("smoke"):
        return
    try:
        refuse_other_classes(path, state, run.class_names)
    except MisfitError:
        starts = [run.recipe.get(f"{who}checkpoint_params") or {} for who in ("", "student_")]
        asked = [each.get("checkpoint_path") for each in starts if each.get("checkpoint_num_classes")]
        files = [find_checkpoint(Path(each)) for each in asked if each]
        if not isinstance(network, ResNet) or find_checkpoint(Path(path)) not in files:
            raise
        if not network.head_is_new:
            network.replace_head(new_num_classes=len(run.class_names))
