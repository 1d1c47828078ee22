"""The data that INT8 ranges are measured on: training images, as they are evaluated."""

import torch

from support import QAT_RECIPE


def test_images_of_a_folder_are_calibrated_as_they_are_evaluated(compose, tmp_path, host):
    """Training images, but not cropped and mirrored at random."""
    from sg_resnets.data.image_folder import noise_folder
    from sg_resnets.runs.build import add_calibration_data, loader_of

    root = noise_folder(3)
    recipe = compose(
        "arch_params.num_classes=3", f"dataset_params.train_dataset_params.root={root}",
        "dataset_params.train_dataset_params.size=32", recipe="qat_image_folder", tiny=False,
    )  # fmt: skip
    add_calibration_data(recipe)
    calibrated_on, evaluated = (loader_of(recipe, split).dataset for split in ("calib", "val"))
    assert calibrated_on.part == "train" and not calibrated_on.augmented
    assert calibrated_on.fitting == evaluated.fitting and calibrated_on.mean == evaluated.mean
    assert torch.equal(calibrated_on[0][0], calibrated_on[0][0])


def test_calibration_takes_training_images_as_they_are_evaluated(compose):
    from sg_resnets.runs.build import add_calibration_data

    cfg = compose(recipe=QAT_RECIPE)
    cfg.dataset_params.train_dataset_params.crop_padding = 4
    add_calibration_data(cfg)
    data = cfg.dataset_params
    assert data.calib_dataset_params == {"train": True, "max_samples": 256, "data_on": "device"}
    loading = data.calib_dataloader_params
    assert loading.batch_size == data.train_dataloader_params.batch_size and loading.shuffle is True
