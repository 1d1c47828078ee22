"""A recipe of the user's own, as `sg-resnets new` writes it: what it stands on, and all that it says of itself."""

import inspect
import re

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from sg_resnets.data.image_folder import ImageFolderImages
from sg_resnets.models.pretrained import available
from sg_resnets.runs.new_recipe import write_recipe
from sg_resnets.runs.recipes import START, our_recipes

PROPOSAL = re.compile(r"^( *)# (\w+): (.+?)  # ", re.MULTILINE)


def composed(folder, name):
    with initialize_config_dir(str(folder), version_base="1.2"):
        return compose(name, ["hydra.searchpath=[pkg://super_gradients.recipes]"])


@pytest.mark.parametrize("base", our_recipes())
def test_it_is_the_recipe_that_it_stands_on_and_each_proposal_changes_what_it_names(base, host, tmp_path):
    file, blanks = write_recipe(str(tmp_path / "mine"), base)
    text = file.read_text()
    recipe, own = composed(tmp_path, base), composed(tmp_path, "mine")
    recipe.experiment_name = "mine"
    assert own == recipe  # ??? over None is None
    assert all(OmegaConf.select(own, blank) is None for blank in blanks) and text.count(": ???") == len(blanks)
    (tmp_path / "all.yaml").write_text(PROPOSAL.sub(r"\1\2: \3  # ", text))
    changed = composed(tmp_path, "all")
    for indent, key, value in PROPOSAL.findall(text):
        section = "training_hyperparams" if len(indent) == 2 else "dataset_params.train_dataset_params"
        before, after = (OmegaConf.select(each, section).get(key) for each in (recipe, changed))
        proposed = OmegaConf.create(f"value: {value}").value
        assert after != before
        assert {**before, **proposed} == after if OmegaConf.is_dict(proposed) else proposed == after


def test_what_its_comments_say_of_others_is_so(host, tmp_path):
    text = write_recipe(str(tmp_path / "pets"), START)[0].read_text()
    assert "architecture: resnet18_v1b" in text and "pretrained_weights: imagenet" in text
    assert {"imagenet"} <= set(available("resnet18_v1b"))
    assert inspect.signature(ImageFolderImages).parameters["horizontal_flip"].default is True
    training = composed(tmp_path, "pets").training_hyperparams
    assert (training.warmup_initial_lr, training.cosine_final_lr_ratio) == (0.0, 0.0)  # initial_lr is the highest


@pytest.mark.parametrize("name", ["2024_01", "null", "yes", "1e3"])
def test_a_name_that_yaml_takes_for_something_else_stays_a_name(name, tmp_path):
    assert OmegaConf.load(write_recipe(str(tmp_path / name), START)[0]).experiment_name == name
