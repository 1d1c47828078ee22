"""`--opset` and `--dynamic-size` of the command, `export_params` of a recipe, and what is done with such files."""

import re

import onnx
import pytest
import torch
from PIL import Image

from sg_resnets.export.onnx import read_info
from sg_resnets.export.runtimes import load
from sg_resnets.utils.errors import SgResnetsError


def described(path):
    """The opset of a file, and the shape of the images that it takes."""
    model = onnx.load(path)
    (takes,) = model.graph.input
    (opset,) = (each.version for each in model.opset_import if each.domain == "")
    return opset, [side.dim_param or side.dim_value for side in takes.type.tensor_type.shape.dim]


def test_the_command_writes_the_opset_and_free_sizes(float_run, command, tmp_path):
    for name, *options in (("a.onnx", "--opset", "11"), ("b.onnx", "--format", "int8", "--opset", "13")):
        code, printed, error = command("export", float_run, tmp_path / name, *options, "--dynamic-size")
        assert code == 0 and "SHA-256" in printed, error
        assert described(tmp_path / name) == (int(options[-1]), ["N", 1, "H", "W"])
        assert read_info(tmp_path / name).size == [28, 28]
    assert command("export", float_run, tmp_path / "c.onnx")[0] == 0
    assert described(tmp_path / "c.onnx") == (17, ["N", 1, 28, 28])
    images = torch.rand(2, 1, 41, 30).numpy()
    assert load(tmp_path / "b.onnx")(images).shape == load(tmp_path / "a.onnx")(images).shape == (2, 10)


def test_a_file_of_free_size_predicts_and_is_measured_as_one_of_fixed_size(float_run, sg_resnets_command, tmp_path):
    for name, *options in (
        ("fixed.onnx",),
        ("free.onnx", "--dynamic-size"),
        ("int8.onnx", "--format", "int8", "--dynamic-size"),
    ):
        done = sg_resnets_command("export", float_run, name, *options, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    generator = torch.Generator().manual_seed(0)
    for name, size in (("a.png", (61, 40)), ("b.png", (30, 90))):
        pixels = torch.randint(256, (*size, 3), dtype=torch.uint8, generator=generator)
        Image.fromarray(pixels.numpy()).save(tmp_path / name)
    fixed, free = (
        sg_resnets_command("predict", name, "a.png", "b.png", cwd=tmp_path) for name in ("fixed.onnx", "free.onnx")
    )
    assert fixed.returncode == 0 and free.stdout == fixed.stdout and fixed.stdout.count("\n") == 2, free.stderr
    done = sg_resnets_command("benchmark", "fixed.onnx", "free.onnx", "int8.onnx", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [re.split(r"  +", line) for line in done.stdout.splitlines() if re.match(r"\w+\.onnx +ONNX Runtime ", line)]
    assert [row[0] for row in rows] == ["fixed.onnx", "free.onnx", "int8.onnx"] and rows[0][3] == rows[1][3]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--opset", "21", "--format", "onnx"], "opset=21: must be an integer from 7 to 20"),
        (["--opset", "new", "--format", "onnx"], "opset='new': must be an integer from 7 to 20"),
        (["--opset", "12", "--format", "int8"], "opset=12: must be an integer from 13 to 20, for INT8"),
        (["--opset", "9", "--format", "onnx"], "cannot be written with opset=9, dynamic_size=False: step!=1"),
        (["--opset", "13", "--format", "safetensors"], "--opset is for ONNX files: add --format onnx, or int8"),
        (["x.safetensors", "--dynamic-size"], "--dynamic-size is for ONNX files"),
    ],
)
def test_what_cannot_be_written_is_one_line(arguments, words, float_run, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, printed, error = command("export", float_run, *arguments)
    assert code == 1 and words in error and "\n" not in error and not printed
    assert not [*tmp_path.iterdir()]


def test_a_recipe_says_how_its_files_are_written_and_export_follows_it(quantise, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copied = tmp_path / "copy.onnx"
    result, run = quantise(
        "export_params.opset=14", "export_params.dynamic_size=True", f"export_params.output_onnx_path={copied}"
    )
    for path in (*(run / f"{kind}.onnx" for kind in ("fp32", "ptq", "qat")), copied):
        assert described(path) == (14, ["N", 1, "H", "W"])
    assert result.output_onnx_path == str(copied)
    assert command("export", run, "x.onnx", "--format", "int8")[0] == 0
    assert described("x.onnx") == (14, ["N", 1, "H", "W"])
    assert command("export", run, "y.onnx", "--format", "int8", "--opset", "15", "--fixed-size")[0] == 0
    assert described("y.onnx") == (15, ["N", 1, 28, 28])


@pytest.mark.parametrize(
    "override, words",
    [
        ("export_params.opset=12", r"^opset=12: must be an integer from 13 to 20, for INT8"),
        ("export_params.opset=latest", r"^opset='latest': must be an integer from 13 to 20"),
        ("export_params.dynamic_size=both", r"^dynamic_size='both': must be True or False"),
        ("+export_params.opsets=13", r"^export_params has no 'opsets': did you mean opset\? valid: output"),
    ],
)
def test_export_params_that_cannot_be_meant_are_one_line(override, words, quantise, tmp_path):
    with pytest.raises(SgResnetsError, match=words) as caught:
        quantise(override)
    assert "\n" not in str(caught.value) and not list(tmp_path.rglob("*.onnx"))


def test_a_network_of_one_size_is_refused_before_it_is_quantised(quantise, tmp_path, monkeypatch):
    from sg_resnets.models import ResNet

    forward = ResNet.forward

    def of_one_size(self, x):
        if x.shape[-1] != 28:
            raise ValueError("images of 28 pixels are needed")
        return forward(self, x)

    monkeypatch.setattr(ResNet, "forward", of_one_size)
    monkeypatch.setattr("sg_resnets.host.int8.calibrated", None)
    with pytest.raises(SgResnetsError, match=r"takes images of 28 x 28 alone \(images of 28 pixels are needed\)"):
        quantise("export_params.dynamic_size=True")


def test_keys_of_export_params_that_are_not_read_are_told(quantise, capfd, caplog):
    quantise("quantization_params.ptq_only=True", "+export_params.batch_size=4")
    assert (
        "export_params.batch_size=4 is not read here; output_onnx_path, opset, dynamic_size are"
        in caplog.text + capfd.readouterr().err
    )
