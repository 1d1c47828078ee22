"""The `sg-resnets` command. What only lists imports neither torch nor the host; training is the host's entry point."""

import itertools
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from sg_resnets.config import ResNetConfig
from sg_resnets.errors import SgResnetsError, choices
from sg_resnets.host import HOST, INSTALL
from sg_resnets.paths import known_recipes, our_recipes
from sg_resnets.zoo import ZOO

app = typer.Typer(
    help="Residual networks for SuperGradients: list, train, resume, evaluate, predict.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Plugins = Annotated[list[str] | None, typer.Option("--plugin", help="Your module with the network's block.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Hydra overrides, such as lr=0.05 epochs=3")]


def main() -> None:
    """Run the command; a mistake of the user is one line and exit code 1."""
    try:
        app()
    except SgResnetsError as error:
        sys.exit(f"sg-resnets: {' '.join(str(error).split())}")
    except ModuleNotFoundError as error:
        if error.name not in (HOST, "data_gradients"):
            raise
        missing = error.name.replace("_", "-")
        sys.exit(f"sg-resnets: {missing} is missing; it is installed without its outdated pins: {INSTALL}")


@app.command()
def models(filter: Annotated[str, typer.Option(help="Only names that contain this.")] = "") -> None:
    """List the models: name, parameters, GMACs, input size, paper."""
    if not any(filter in name for name in ZOO):
        raise SgResnetsError(f"no model's name contains '{filter}': {choices(filter, ZOO, limit=20)}")
    print(f"{'name':<32} {'parameters':>12} {'GMACs':>8} {'input':>9}  paper")
    for name, row in ZOO.items():
        if filter in name:
            size = f"{row.input_size}x{row.input_size}x{row.config.in_channels}"
            print(f"{name:<32} {row.parameters:>12,} {row.macs / 1e9:>8.3f} {size:>9}  {row.paper}")


Model = Annotated[str, typer.Argument(help="A model's name, or custom_resnet.")]
ArchParams = Annotated[list[str] | None, typer.Argument(help="arch_params, such as attention=se depth=56")]
Size = Annotated[int | None, typer.Option(help="Side of the images in pixels; the model's own if left out.")]


@app.command()
def summary(name: Model, arch_params: ArchParams = None, size: Size = None, plugin: Plugins = None) -> None:
    """Print a model layer by layer: output shape, parameters, multiply-accumulates, receptive field."""
    config, size = _configured(name, arch_params or [], size, plugin or [])
    from sg_resnets.diagnostics.summary import summarise

    layers = summarise(config, size)
    print(f"{'layer':<12} {'kind':<36} {'output':>16} {'parameters':>12} {'MACs':>15} {'sees':>6}")
    for layer in layers:
        shape, sees = "x".join(map(str, layer.shape)), layer.receptive_field or "all"
        print(f"{layer.name:<12} {layer.kind:<36} {shape:>16} {layer.parameters:>12,} {layer.macs:>15,} {sees:>6}")
    parameters, macs = sum(layer.parameters for layer in layers), sum(layer.macs for layer in layers)
    print(f"{'in all':<12} {'':<36} {'':>16} {parameters:>12,} {macs:>15,}")
    print(f"\nsees: side of the receptive field, in pixels of the {size}x{size} image.")
    if name in ZOO and not arch_params:
        from sg_resnets.weights import available

        missing = ZOO[name].timm and not find_spec("timm")
        more = "; timm's after `pip install 'sg-resnets[timm]'`" if missing else ""
        print(f"{ZOO[name].paper}. Pretrained weights: {', '.join(available(name)) or 'none'}{more}.")


@app.command()
def draw(
    name: Model,
    arch_params: ArchParams = None,
    output: Annotated[Path | None, typer.Option(help="A .png, .svg or .pdf file; NAME.png if left out.")] = None,
    size: Size = None,
    plugin: Plugins = None,
) -> None:
    """Draw a model, its stages and its blocks."""
    config, size = _configured(name, arch_params or [], size, plugin or [])
    output = output or Path(f"{name}.png")
    _refuse_no_picture(output)
    from sg_resnets.diagnostics.draw import draw_network

    draw_network(config, name, size).savefig(output, dpi=150)
    print(output)


def _refuse_no_picture(output: Path) -> None:
    if output.suffix not in (".png", ".svg", ".pdf"):
        raise SgResnetsError(f"--output {output}: give a file that ends in .png, .svg or .pdf")
    if not output.absolute().parent.is_dir():
        raise SgResnetsError(f"--output {output}: there is no folder {output.parent}")


def _configured(name: str, arch_params: list[str], size: int | None, plugins: list[str]) -> tuple[ResNetConfig, int]:
    """The configuration and the side of the images that the command's arguments ask for."""
    from omegaconf import OmegaConf

    from sg_resnets.recipe import import_plugins
    from sg_resnets.zoo import CUSTOM, refuse_unknown_model

    import_plugins(plugins)
    refuse_unknown_model(name, [*ZOO, CUSTOM])
    for text in arch_params:
        if "=" not in text:
            raise SgResnetsError(f"'{text}' is no arch_param: write key=value, such as depth=56")
    given: Any = OmegaConf.to_container(OmegaConf.from_dotlist(arch_params))
    row = ZOO.get(name, ZOO["resnet20_cifar"])
    if size is not None and size < 1:
        raise SgResnetsError(f"--size {size}: must be a whole number of pixels from 1 on")
    return row.config.override(**given), size or row.input_size


@app.command()
def recipes() -> None:
    """List the recipes: name and what each reaches, from its header."""
    paths = our_recipes()
    wide = max(len(path.stem) for path in paths)
    print(f"{'recipe':<{wide}} reaches")
    for path in paths:
        _, _, after = path.read_text().partition("# Reaches:")
        first, *others = after.splitlines()
        more = itertools.takewhile(lambda line: line.startswith("#  "), others)  # indented: the sentence goes on
        print(f"{path.stem:<{wide}} {' '.join([first.strip(), *(line[1:].strip() for line in more)])}")


@app.command()
def train(recipe: str, overrides: Overrides = None) -> None:
    """Train a recipe: `python -m super_gradients.train_from_recipe --config-name=RECIPE OVERRIDES`."""
    import runpy

    if recipe not in (known := known_recipes()):
        raise SgResnetsError(f"unknown recipe '{recipe}': {choices(recipe, known)}")
    module = "super_gradients.train_from_recipe"
    sys.argv = [module, f"--config-name={recipe}", *(overrides or [])]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


@app.command()
def resume(run: Path, overrides: Overrides = None) -> None:
    """Go on with a run: RUN is its folder, or its experiment's (then the latest run). Overrides: epochs=20 ..."""
    from sg_resnets.runs import resume_run

    resume_run(run, overrides or [])


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="A run's folder, an experiment's, or a checkpoint.")],
    plugin: Plugins = None,
) -> None:
    """Evaluate a checkpoint (of a run: the best one) on its recipe's test data, and print a table."""
    from sg_resnets.runs import evaluate_checkpoint

    for name, value in evaluate_checkpoint(run, plugin or []):
        print(f"{name:<18} {value}")


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, or of experiments with several runs.")],
    output: Annotated[Path, typer.Option(help="The picture of their curves.")] = Path("comparison.png"),
) -> None:
    """Compare runs: accuracy, time and parameters in a table, the curves in a picture. Runs that differ in the seed
    alone are one row, with mean and spread; a run that was repeated with the same seed replaces the earlier one."""
    _refuse_no_picture(output)
    from sg_resnets.diagnostics import compare as comparison

    rows = comparison.compare(runs)
    for line in comparison.table(rows):
        print(line)
    if empty := comparison.without_runs(runs):
        print(f"left out, no run with ckpt_best.pth and curves.csv: {', '.join(map(str, empty))}")
    comparison.draw_comparison(rows).savefig(output, dpi=150)
    print(f"curves: {output}")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A run's folder, an experiment's, or a checkpoint.")],
    output: Annotated[
        Path | None, typer.Argument(help="The file to write; ARCHITECTURE.onnx, ... if left out.")
    ] = None,
    format: Annotated[str, typer.Option(help="safetensors, onnx or int8; by the file's name if left out.")] = "",
    uint8_input: Annotated[
        bool, typer.Option("--uint8-input", help="The ONNX file takes pixels 0..255 and normalises them itself.")
    ] = False,
    quantization: Annotated[
        list[str] | None, typer.Option(help="For int8, of quantization_params, such as target=openvino; repeat it.")
    ] = None,
    plugin: Plugins = None,
) -> None:
    """Write a checkpoint (of a run: the best one) as a file: safetensors to share, ONNX in float32 or INT8 to run."""
    from hashlib import sha256

    suffixes = {"safetensors": ".safetensors", "onnx": ".onnx", "int8": ".onnx"}
    if not format and output is not None and output.suffix not in suffixes.values():
        raise SgResnetsError(f"{output}: the file's name must end in {' or '.join(dict.fromkeys(suffixes.values()))}")
    format = format or (output.suffix.removeprefix(".") if output else "onnx" if uint8_input else "safetensors")
    if format not in suffixes:
        raise SgResnetsError(f"--format {format}: {choices(format, suffixes)}")
    if uint8_input and format == "safetensors":
        raise SgResnetsError("--uint8-input is for ONNX files: add --format onnx, or int8")
    if quantization and format != "int8":
        raise SgResnetsError("--quantization is for INT8 files: add --format int8")
    if output is not None and output.suffix != suffixes[format]:
        raise SgResnetsError(f"{output}: the file's name must end in {suffixes[format]}")
    from sg_resnets.runs import export_onnx, load_checkpoint

    path, state = load_checkpoint(run)
    if output is None:
        output = Path(state["recipe"]["architecture"] + ("_int8" if format == "int8" else "") + suffixes[format])
    if format == "safetensors":
        from sg_resnets import safetensors_file

        safetensors_file.write(state, output)
    else:
        from sg_resnets.onnx_benchmark import warnings

        _, info = export_onnx(run, output, format == "int8", uint8_input, plugin or [], quantization or [])
        for warning in warnings([info]):
            print(warning)
    contents = output.read_bytes()
    print(f"{output}  {len(contents):,} bytes  SHA-256 {sha256(contents).hexdigest()}  from {path}")


@app.command()
def benchmark(
    files: Annotated[list[Path], typer.Argument(help="ONNX files; the others are compared with the first.")],
    output: Annotated[Path, typer.Option(help="The picture.")] = Path("benchmark.png"),
    accuracy: Annotated[bool, typer.Option(help="On the test data of the first file's recipe.")] = True,
    plugin: Plugins = None,
) -> None:
    """Compare ONNX files in ONNX Runtime, one thread: accuracy, size, latency of 1 and of 32 images, in turn."""
    _refuse_no_picture(output)
    from sg_resnets import onnx_benchmark
    from sg_resnets.onnx_file import read_info

    infos = [read_info(file) for file in files]
    loader = None
    if accuracy and infos[0].recipe:
        from sg_resnets.runs import loader_of, recipe_of

        loader = loader_of(recipe_of({"recipe": infos[0].recipe}, plugin or []), "val")
    rows = onnx_benchmark.measure(files, loader)
    for line in onnx_benchmark.table(rows):
        print(line)
    print(f"measured on {onnx_benchmark.place()}")
    for warning in onnx_benchmark.warnings(infos):
        print(warning)
    onnx_benchmark.draw(rows, f"ONNX Runtime, {onnx_benchmark.place()}").savefig(output, dpi=150)
    print(f"picture: {output}")


@app.command()
def predict(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint, or a run's or experiment's folder.")],
    images: Annotated[list[Path], typer.Argument(help="Image files of any size.")],
    plugin: Plugins = None,
) -> None:
    """Name what is in each image, with its probability."""
    from sg_resnets.runs import predict_images

    for image, label, probability in predict_images(checkpoint, images, plugin or []):
        print(f"{image}  {label}  {probability:.1%}")


@app.command()
def experiment(
    name: Annotated[
        str, typer.Argument(help="degradation, gradients, shattered, identity, lesion, landscape, shortcuts")
    ],
    budget: Annotated[float, typer.Option(help="Minutes to spend: more seeds, or a finer picture.")] = 3.0,
    folder: Annotated[Path, typer.Option(help="Where picture, table and paragraph go.")] = Path("experiments"),
    full: Annotated[bool, typer.Option("--full", help="On CIFAR-10, with the paper's nets and epochs.")] = False,
) -> None:
    """Run one of the course's experiments end to end, and say what it showed."""
    from sg_resnets.diagnostics.experiments import run_experiment
    from sg_resnets.diagnostics.worlds import COURSE, PAPER

    finding = run_experiment(name, budget, folder / name, PAPER if full else COURSE)
    print(finding.paragraph)
    print(f"Picture, table and text: {folder / name}")


@app.command()
def doctor() -> None:
    """Say what is installed, which repairs are active, what can train here; exit code 1 if nothing can."""
    from sg_resnets.doctor import examine

    sys.exit(examine())
