"""Each repair is needed: its test fails where the repair is switched off."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sg_resnets.host.activation import HOST_VERSION

TESTS = Path(__file__).parents[1]
# The test that sees what each repair does.
WHAT_SEES = {
    "registries": "host/test_registration.py::test_focal_loss",
    "data_sets": "host/test_datasets.py::test_every_data_set_has_a_name_in_the_host",
    "early_stop": "integration/test_optimisation.py::test_early_stop",
    "torchvision_processing": "host/test_repairs.py::test_torchvision_processing",
    "mixing": "integration/test_optimisation.py::test_pictures_in_memory_are_mixed",
    "batch_accumulate": "integration/test_optimisation.py::test_batch_accumulate",
    "layer_groups": "integration/test_entry_points.py::test_what_a_recipe_cannot_mean_is_refused_in_a_line",
    "zero_weight_decay": "host/test_repairs.py::test_zero_weight_decay_holds_for_scalars_and_factors_of_a_channel",
    "schedule_of_batches": "integration/test_optimisation.py::test_lr_schedulers",
    "warmup_steps": "integration/test_optimisation.py::test_lr_schedulers",
    "one_cycle": "integration/test_interrupts.py::test_interrupt_in_an_epoch_goes_on_with_its_schedule",
    "schedule_warning": "integration/test_entry_points.py::test_a_schedule_of_pytorchs_warns_of_nothing",
    "colours": "host/test_repairs.py::test_boxes_are_drawn_in_the_colours_of_their_classes",
    "json_of_numpy": "host/test_repairs.py::test_data_adapters_store_numpys_numbers",
    "onnx_export": "integration/test_own_code.py"
    "::test_a_network_is_converted_to_onnx_without_packages_that_are_not_there",
    "waiting": "integration/test_training_runs.py::test_a_step_fetches_nothing",
    "precise_bn": "integration/test_own_code.py::test_precise_batch_norm_has_the_statistics_of_the_training_data",
    "safe_checkpoints": "integration/test_checkpoint_runs.py::test_safe_checkpoints",
    "whole_checkpoints": "host/test_repairs.py::test_atomic_checkpoints",
    "recipe_in_checkpoints": "integration/test_training_runs.py::test_recipe_of_a_run",
    "best_checkpoint": "integration/test_checkpoint_runs.py::test_resume_keeps_best",
    "average_best_models": "integration/test_checkpoint_runs.py::test_average_best_models",
    "experiments": "integration/test_training_runs.py::test_recipe_of_a_run",
    "loggers": "integration/test_training_runs.py"
    "::test_a_logger_without_its_packages_is_a_line_where_no_recipe_is_checked",
    "log_files": "host/test_repairs.py::test_a_log_that_cannot_be_written_is_said_once",
    "cross_entropy": "host/test_losses.py::test_weights_and_smoothing_are_pytorchs",
    "names": "integration/test_entry_points.py::test_an_unknown_architecture_is_of_the_type_that_callers_catch",
    "overrides": "host/test_overrides.py::test_a_path_that_exists_is_taken_as_it_is",
    "own_recipes": "integration/test_own_recipes.py::test_a_mistake_in_a_recipe_is_one_line_that_says_where",
    "help": "integration/test_start_up.py::test_help_option",
    "mixed_precision": "integration/test_optimisation.py::test_mixed_precision",
    "torch_compile": "integration/test_optimisation.py::test_compile_in_place",
    "seed_of_epochs": "integration/test_checkpoint_runs.py::test_seed_each_epoch",
    "samplers": "integration/test_optimisation.py::test_repeated_augmentation",
    "interrupt": "integration/test_interrupts.py::test_interrupt_in_the_first_validation_loses_no_epoch",
    "weights": "host/test_weights.py::test_their_weights_come_from_a_mirror_and_give_the_same_outputs",
    "pretrained_weights": "models/test_pretrained.py"
    "::test_shipped_checkpoints_are_small_and_fit_other_classes_and_channels",
    "trainer": "integration/test_training_runs.py"
    "::test_a_loss_that_is_no_number_ends_training_with_step_layer_and_the_last_good_checkpoint",
    "distributed": "integration/test_ddp_failures.py::test_more_processes_than_there_is_room_for_is_one_line",
    "distillation": "integration/test_distillation_runs.py::test_the_teachers_accuracy_is_measured_once",
    "int8": "integration/test_int8_runs.py::test_nothing_is_installed_while_it_runs",
    "recipes": "integration/test_training_runs.py::test_seed_before_model",
}


def test_every_repair_is_listed(host):
    from sg_resnets.host.installed import REPAIRS

    assert {repair.name for repair in REPAIRS} == set(WHAT_SEES) and HOST_VERSION == "3.7.1"


@pytest.mark.slow
@pytest.mark.parametrize("name", WHAT_SEES)
def test_its_test_fails_without_it(name):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", TESTS / WHAT_SEES[name]],
        env={**os.environ, "SG_RESNETS_WITHOUT": name},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stdout[-2000:]
