"""Runs are exported to ONNX files, which are compared; what cannot be quantised is one line."""

import re

import onnx
import pytest
import torch

from sg_resnets.utils.errors import SgResnetsError


def test_a_float_run_is_exported_and_the_files_are_compared(float_run, sg_resnets_command, tmp_path):
    done = sg_resnets_command("export", float_run, "--format", "int8", cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path / "resnet20_cifar_int8.onnx").is_file(), done.stderr
    for name, *options in (("float.onnx",), ("int8.onnx", "--format", "int8"), ("pixels.onnx", "--uint8-input")):
        done = sg_resnets_command("export", float_run, name, *options, cwd=tmp_path)
        assert done.returncode == 0 and "SHA-256" in done.stdout, done.stderr
    assert (tmp_path / "resnet20_cifar_int8.onnx").read_bytes() == (tmp_path / "int8.onnx").read_bytes()
    done = sg_resnets_command("benchmark", "float.onnx", "int8.onnx", "pixels.onnx", cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path / "benchmark.png").is_file(), done.stderr
    rows = [re.split(r"  +", line) for line in done.stdout.splitlines() if re.match(r"\w+\.onnx ", line)]
    assert [row[0] for row in rows[:3]] == ["float.onnx", "int8.onnx", "pixels.onnx"]
    assert {row[1] for row in rows[:3]} == {"ONNX Runtime"} and [row[2] for row in rows[:3:2]] == ["float32"] * 2
    accuracy = f"{float(torch.load(float_run / 'ckpt_best.pth')['acc']):.4f}"
    assert {row[3] for row in rows if row[2] == "float32"} == {accuracy}
    assert all(row[2].startswith("int8") for row in rows if row[0] == "int8.onnx")
    assert "fastest here for 1 at a time, on one thread: " in done.stdout and "fastest here for 32 at a " in done.stdout
    large, small = (
        sum(len(stored.SerializeToString()) for stored in onnx.load(tmp_path / name).graph.initializer)
        for name in ("float.onnx", "int8.onnx")
    )
    assert small < large / 2
    from sg_resnets.export.onnx import read_info

    info = read_info(tmp_path / "float.onnx")
    assert len(info.classes) == 10 and info.recipe["architecture"] == "resnet20_cifar" and info.mean == [0.286]


def test_export_takes_quantization_params(float_run, sg_resnets_command, tmp_path):
    done = sg_resnets_command(
        "export", float_run, "o.onnx", "--format", "int8", "--quantization", "target=openvino",
        "--quantization", "reduce_range=True", "--quantization", "max_drop=100", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "max_drop 100: calibration loses " in done.stdout and "with all layers in INT8" in done.stdout
    from sg_resnets.export.onnx import has_wide_weights

    assert not has_wide_weights(tmp_path / "o.onnx")
    for args, words in (
        (["--format", "int8", "--quantization", "target=openvin"], "unknown target 'openvin': did you mean openvino"),
        (["--format", "onnx", "--quantization", "target=openvino"], "--quantization is for INT8 files"),
    ):
        done = sg_resnets_command("export", float_run, "p.onnx", *args, cwd=tmp_path)
        assert done.returncode == 1 and words in done.stderr and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize(
    "overrides, words",
    [
        (
            ["checkpoint_params.checkpoint_path=null"],
            "starts from a trained network: set checkpoint_params.checkpoint_",
        ),
        (["architecture=resnet32_cifar", "++arch_params.depth=14"], "does not fit resnet32_cifar: .*trained as arch"),
        (["quantization_params.calib_params.num_calib_batches=0"], "num_calib_batches=0: must be an integer >= 1"),
        (["quantization_params.selective_quantizer_params.calibrator_w=histogram"], "or per_channel=False"),
        (
            ["quantization_params.selective_quantizer_params.calibrator_i=mean"],
            "unknown calibrator_i 'mean': valid: max",
        ),
        (
            ["quantization_params.selective_quantizer_params.skip_modules=[layer9]"],
            "'layer9' names no layer or addition: .*conv1",
        ),
        (["quantization_params.target=tpu"], "unknown target 'tpu': valid: onnxruntime, openvino, tensorrt"),
        (["quantization_params.calib_params.histogram_calib_method=median"], "valid: percentile, mse, entropy"),
        (["quantization_params.calib_params.percentile=0"], "percentile=0: must be a number > 0 and <= 100"),
        (["+quantization_params.bits=4"], "quantization_params has no 'bits': valid: ptq_only"),
        (["export_params.output_onnx_path=/no/where/x.onnx"], "there is no folder /no/where"),
        (["export_params.output_onnx_path=/tmp"], "/tmp is a folder: name the file"),
        (["quantization_params.selective_quantizer_params=max"], "selective_quantizer_params=max: must be keys"),
        (["quantization_params.selective_quantizer_params.skip_modules=[bn1]"], "'bn1' names no layer or addition"),
        (["training_hyperparams.finetune=True"], "finetune: leave it out"),
        (
            ["training_hyperparams.phase_callbacks=[GradientFlow]", "quantization_params.sensitivity_images=0"],
            "GradientFlow watches residual blocks of ours, and this network has none",
        ),
        (["quantization_params.selective_quantizer_params.skip_modules=5"], "skip_modules=5: must be a list"),
        (["quantization_params.selective_quantizer_params.skip_modules=[1]"], "must be a list of modules' paths"),
        (["quantization_params.selective_quantizer_params.skip_modules=['*']"], "nothing is left to quantise"),
        (["quantization_params.calib_params.percentile=True"], "percentile=True: must be a number > 0"),
        (["quantization_params.calib_params.num_calib_batches=16.0"], "num_calib_batches=16.0: must be an integer"),
        (["quantization_params.calib_params.num_calib_batches=inf"], "num_calib_batches=inf: must be an integer"),
        (["quantization_params.sensitivity_images=True"], "sensitivity_images=True: must be an integer >= 0"),
        (["multi_gpu=DDP"], "quantisation runs in one process"),
        (["distillation=at"], "compares features"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_input_is_one_line(quantise, overrides, words, tmp_path):
    with pytest.raises(SgResnetsError, match=words) as caught:
        quantise(*overrides)
    assert "\n" not in str(caught.value) and not list(tmp_path.rglob("*.onnx"))


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["export", "RUN", "x.onnx", "--format", "tflite"], "--format tflite: valid: safetensors, onnx, int8"),
        (["export", "RUN", "x.tflite"], "the file's name must end in .safetensors or .onnx"),
        (["export", "RUN", "x.bin", "--format", "onnx"], "the file's name must end in .onnx"),
        (["export", "RUN", "no/where/x.onnx"], "there is no folder no/where"),
        (["benchmark", "text.onnx", "--output", "no/where.png"], "there is no folder no"),
        (["export", "RUN", "x.safetensors", "--uint8-input"], "--uint8-input is for ONNX files"),
        (["benchmark", "fixed.onnx"], "fixed.onnx takes one input of (1, 1, 28, 28)"),
        (["benchmark", "x.onnx"], "there is no x.onnx: give ONNX files"),
        (["benchmark", "text.onnx"], "text.onnx is damaged or no ONNX file"),
        (["benchmark", "report.json"], "report.json is damaged or no ONNX file"),
    ],
)
def test_bad_arguments_are_one_line(arguments, words, float_run, sg_resnets_command, tmp_path):
    (tmp_path / "text.onnx").write_text("no file of ours")
    (tmp_path / "report.json").write_text("{}")
    if "fixed.onnx" in arguments:  # another's file, whose batch is one image
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
        torch.onnx.export(network, (torch.zeros(1, 1, 28, 28),), tmp_path / "fixed.onnx", dynamo=False)
    done = sg_resnets_command(*[float_run if word == "RUN" else word for word in arguments], cwd=tmp_path)
    assert done.returncode == 1 and words in done.stderr and done.stderr.count("\n") == 1
