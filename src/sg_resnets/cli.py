"""The `sg-resnets` command: parse, call, print. What only lists imports neither torch nor SuperGradients; training is
SuperGradients' own entry point."""

import re
import runpy
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from sg_resnets.host.activation import HOST, INSTALL
from sg_resnets.models.config import ResNetConfig
from sg_resnets.models.zoo import CUSTOM, ZOO, refuse_unknown_model
from sg_resnets.runs.recipes import START, describe_result, hydra_options, our_recipes, read_results
from sg_resnets.utils.checks import integer
from sg_resnets.utils.dotlist import parse_dotlist
from sg_resnets.utils.errors import SgResnetsError, choices, one_line, shown
from sg_resnets.utils.files import check_parent, write_rows
from sg_resnets.utils.foreign_code import refusing
from sg_resnets.utils.plots import check_picture, save_figure
from sg_resnets.utils.plugins import import_plugins

app = typer.Typer(
    help="Residual networks for SuperGradients: list, train, resume, evaluate, predict.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Plugins = Annotated[list[str] | None, typer.Option("--plugin", help="Your module with the network's block.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Hydra overrides, such as lr=0.05 epochs=3")]
AllowCode = Annotated[
    bool, typer.Option("--allow-code", help="Build what the recipe names under _target_, whatever it is.")
]
Run = Annotated[Path, typer.Argument(help="A run's folder, an experiment's, or a checkpoint.")]


def main() -> None:
    """Run the command; a mistake of the user is one line and exit code 1."""
    sys.argv[1:] = map(_with_home, sys.argv[1:])
    try:
        with refusing():
            app()
    except SgResnetsError as error:
        sys.exit(f"sg-resnets: {shown(error)}")
    except ModuleNotFoundError as error:
        if error.name not in (HOST, "data_gradients"):
            raise
        missing = error.name.replace("_", "-")
        sys.exit(f"sg-resnets: {missing} is missing; it is installed without its outdated pins: {INSTALL}")


def _with_home(word: str) -> str:
    """The word with the home folder for ~: shells replace it at the beginning alone, not in --output=~/net.svg."""
    return re.sub(r"^(--[\w-]+=)?~(?=/|$)", lambda found: f"{found[1] or ''}{Path.home()}", word)


@app.command()
def models(part: Annotated[str, typer.Option("--filter", help="Only names that contain this.")] = "") -> None:
    """List the models: name, parameters, GMACs, input size, paper."""
    if not any(part in name for name in ZOO):
        raise SgResnetsError(f"no model's name contains '{part}': {choices(part, ZOO, limit=20)}")
    print(f"{'name':<32} {'parameters':>12} {'GMACs':>8} {'input':>9}  paper")
    for name, row in ZOO.items():
        if part in name:
            size = f"{row.input_size}x{row.input_size}x{row.config.in_channels}"
            print(f"{name:<32} {row.parameters:>12,} {row.macs / 1e9:>8.3f} {size:>9}  {row.paper}")


Model = Annotated[str, typer.Argument(help="A model's name, or custom_resnet.")]
ArchParams = Annotated[list[str] | None, typer.Argument(help="arch_params, such as attention=se depth=56")]
Size = Annotated[int | None, typer.Option(help="Side of the images in pixels; the model's own if left out.")]


@app.command()
def summary(name: Model, arch_params: ArchParams = None, size: Size = None, plugin: Plugins = None) -> None:
    """Print a model layer by layer: output shape, parameters, multiply-accumulates, receptive field."""
    config, size = _configured(name, arch_params or [], size, plugin or [])
    from sg_resnets.models.summary import summarise

    layers = summarise(config, size)
    print(f"{'layer':<12} {'kind':<36} {'output':>16} {'parameters':>12} {'MACs':>15} {'sees':>6}")
    for layer in layers:
        shape, sees = "x".join(map(str, layer.shape)), layer.receptive_field or "all"
        print(f"{layer.name:<12} {layer.kind:<36} {shape:>16} {layer.parameters:>12,} {layer.macs:>15,} {sees:>6}")
    parameters, macs = sum(layer.parameters for layer in layers), sum(layer.macs for layer in layers)
    print(f"{'in all':<12} {'':<36} {'':>16} {parameters:>12,} {macs:>15,}")
    print(f"\nsees: side of the receptive field, in pixels of the {size}x{size} image.")
    if name in ZOO and not arch_params:
        from sg_resnets.models.pretrained import available

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
    check_picture(output)
    from sg_resnets.models.picture import draw_network

    save_figure(draw_network(config, name, size), output)
    print(output)


def _configured(name: str, arch_params: list[str], size: int | None, plugins: list[str]) -> tuple[ResNetConfig, int]:
    """The configuration and the side of the images that the command's arguments ask for."""
    from omegaconf import OmegaConf

    import_plugins(plugins)
    refuse_unknown_model(name, [*ZOO, CUSTOM])
    params = OmegaConf.to_container(parse_dotlist(arch_params, "arch_param", "depth=56"))
    row = ZOO.get(name, ZOO["resnet20_cifar"])
    if size is not None:
        integer(1)("--size", size)
    return row.config.override(**params), size or row.input_size  # type: ignore[arg-type]


@app.command()
def recipes() -> None:
    """List the recipes: name and what each reaches, measured where."""
    results = read_results()
    width = max(len(name) for name in our_recipes())
    print(f"{'recipe':<{width}} reaches")
    for name in our_recipes():
        for i, row in enumerate(row for row in results if row["recipe"] == name):
            print(f"{'' if i else name:<{width}} {describe_result(row)}")


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="pets, or folder/pets: the file to write, without .yaml or with it.")],
    base: Annotated[str, typer.Option("--from", help="Our recipe that it stands on.")] = START,
) -> None:
    """Write a recipe of your own to begin with: a short YAML file on top of one of ours."""
    from sg_resnets.runs.new_recipe import write_recipe

    file, blanks = write_recipe(name, base)
    for blank in blanks:
        print(f"{file}: write {blank} in the place of ???")
    print(f"sg-resnets train {shlex.quote(str(file))}")


@app.command()
def train(recipe: str, overrides: Overrides = None, allow_code: AllowCode = False) -> None:
    """Train a recipe, ours by its name or a YAML file of yours: `python -m super_gradients.train_from_recipe
    --config-name=RECIPE OVERRIDES`."""
    module = "super_gradients.train_from_recipe"
    sys.argv = [module, *hydra_options(recipe), *(overrides or [])]
    with refusing(not allow_code):
        runpy.run_module(module, run_name="__main__", alter_sys=True)


@app.command()
def find_lr(
    recipe: str,
    overrides: Overrides = None,
    steps: Annotated[int, typer.Option(help="How many, at most; each tries one rate.")] = 200,
    start: Annotated[float, typer.Option(help="The first rate.")] = 1e-5,
    end: Annotated[float, typer.Option(help="The last rate.")] = 10.0,
    output: Annotated[Path, typer.Option(help="The picture of loss over rate.")] = Path("find_lr.png"),
    allow_code: AllowCode = False,
) -> None:
    """Find a learning rate: train a recipe, given as to `train`, for some steps at a rate that grows; draw the loss,
    and print, in the last line, the override with the rate that it suggests. Only the picture is left."""
    check_picture(output)
    from sg_resnets.training.lr_range import draw_curve, growing_rates

    rates = growing_rates(start, end, steps)
    sys.argv = ["sg-resnets find-lr", *hydra_options(recipe), *(overrides or [])]
    from sg_resnets.host.lr_finder import sweep_command

    with refusing(not allow_code):
        sweep = sweep_command(rates)
    curve, before = sweep.curve, max(sweep.initial)
    save_figure(draw_curve(curve, f"{recipe}: learning rates", before), output)
    print(f"{curve.describe()}\npicture: {output}")
    suggestion = sweep.override(curve.suggest())
    print(f"the recipe has {sweep.override(before)}; the curve suggests\n{suggestion}")


@app.command()
def resume(run: Path, overrides: Overrides = None, allow_code: AllowCode = False) -> None:
    """Go on with a run: RUN is its folder, or its experiment's (then the latest run). Overrides: epochs=20 ..."""
    from sg_resnets.runs.resume import resume_run

    with refusing(not allow_code):
        resume_run(run, overrides or [])


@app.command()
def evaluate(
    run: Run,
    overrides: Overrides = None,
    split: Annotated[str | None, typer.Option(help="Of a folder of pictures: train, val, test or all.")] = None,
    root: Annotated[Path | None, typer.Option(help="Another folder of pictures, of the same classes.")] = None,
    plugin: Plugins = None,
) -> None:
    """Evaluate a checkpoint (of a run: the best one) on its recipe's test data: print a table, and write a page with
    what is taken for what and the worst mistakes, a CSV of every picture, and JSON."""
    from sg_resnets.runs.evaluate import evaluate_checkpoint

    print("\n".join(evaluate_checkpoint(run, plugin or [], split, root, overrides or []).lines()))


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, or of experiments with several runs.")],
    output: Annotated[Path, typer.Option(help="The picture of their curves.")] = Path("comparison.png"),
) -> None:
    """Compare runs: accuracy, time and parameters in a table, the curves in a picture. Runs that differ in the seed
    alone are one row, with mean and spread; a run that was repeated with the same seed replaces the earlier one."""
    check_picture(output)
    from sg_resnets.runs import compare as comparison

    rows = comparison.compare(runs)
    for line in comparison.table(rows):
        print(line)
    if empty := comparison.without_runs(runs):
        print(f"left out, no run with ckpt_best.pth and curves.csv: {', '.join(map(str, empty))}")
    save_figure(comparison.draw_comparison(rows), output)
    print(f"curves: {output}")


@app.command()
def export(
    run: Run,
    output: Annotated[
        Path | None, typer.Argument(help="The file to write; ARCHITECTURE.onnx, ... if left out.")
    ] = None,
    kind: Annotated[
        str, typer.Option("--format", help="safetensors, onnx or int8; by the file's name if left out.")
    ] = "",
    uint8_input: Annotated[
        bool, typer.Option("--uint8-input", help="The ONNX file takes pixels 0..255 and normalises them itself.")
    ] = False,
    opset: Annotated[
        str | None, typer.Option(metavar="INTEGER", help="Of the ONNX file: 7 to 20, from 13 on for int8; else 17.")
    ] = None,
    dynamic_size: Annotated[
        bool | None, typer.Option("--dynamic-size/--fixed-size", help="Height and width are free in the ONNX file.")
    ] = None,
    quantization: Annotated[
        list[str] | None, typer.Option(help="For int8, such as target=openvino; repeat it for other keys.")
    ] = None,
    plugin: Plugins = None,
) -> None:
    """Write a checkpoint (of a run: the best one) as a file: safetensors to share, ONNX in float32 or INT8 to run."""
    from sg_resnets.runs.export import choose_format, export_checkpoint

    given = {"--uint8-input": uint8_input, "--opset": opset is not None, "--dynamic-size": dynamic_size}
    kind = choose_format(kind, output, quantization or [], [name for name, is_given in given.items() if is_given])
    exported = export_checkpoint(run, output, kind, uint8_input, plugin or [], quantization or [], opset, dynamic_size)
    if exported.info is not None:
        from sg_resnets.export.benchmark import warnings

        for warning in warnings([exported.path]):
            print(warning)
    print(exported)


@app.command()
def benchmark(
    files: Annotated[list[Path], typer.Argument(help="ONNX files; the others are compared with the first.")],
    output: Annotated[Path, typer.Option(help="The picture.")] = Path("benchmark.png"),
    accuracy: Annotated[bool, typer.Option(help="On the test data of the first file that has a recipe.")] = True,
    plugin: Plugins = None,
) -> None:
    """Compare ONNX files in each runtime that is installed, one thread: accuracy, size, latency of 1 and of 32 images,
    in turn; and name the fastest way to run the network here."""
    check_picture(output)
    from sg_resnets.export import benchmark as onnx_benchmark
    from sg_resnets.export.onnx import read_info

    loader, recipe = None, next((info.recipe for info in map(read_info, files) if info.recipe), None)
    if accuracy and recipe:
        from sg_resnets.runs.build import loader_of, recipe_of

        loader = loader_of(recipe_of({"recipe": recipe}, plugin or []), "val")
    rows, left_out = onnx_benchmark.measure(files, loader)
    machine = onnx_benchmark.describe_machine()
    for line in (*onnx_benchmark.table(rows), f"measured on {machine}", *left_out, *onnx_benchmark.warnings(files)):
        print(line)
    for line in onnx_benchmark.fastest(rows):
        print(line)
    save_figure(onnx_benchmark.draw(rows, machine), output)
    print(f"picture: {output}")


@app.command()
def predict(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint, a run's or experiment's folder, or an ONNX file.")],
    images: Annotated[list[Path], typer.Argument(help="Image files of any size, folders of them, or patterns.")],
    top: Annotated[int, typer.Option(min=1, help="So many classes, the likeliest first.")] = 1,
    table: Annotated[Path | None, typer.Option("--csv", help="Write them into this file.")] = None,
    tta: Annotated[str | None, typer.Option(help="flip: the mean of an image's and its mirror image's.")] = None,
    runtime: Annotated[
        str | None, typer.Option(help="Of an ONNX file: onnxruntime, openvino, onnxruntime_cuda, tensorrt.")
    ] = None,
    plugin: Plugins = None,
) -> None:
    """Name what is in each image, with its probability. A file that cannot be read is named on stderr, the others are
    predicted, and the exit code is 1."""
    if tta not in (None, "flip"):
        raise SgResnetsError(f"--tta {tta}: {choices(str(tta), ['flip'])}")
    if table is not None:
        check_parent(table)
    from tqdm import tqdm

    from sg_resnets.runs.predict import image_files, predict_images

    files = image_files(images)
    found = predict_images(checkpoint, files, plugin or [], runtime, top, tta == "flip")
    bar = tqdm(found, total=len(files), delay=2, leave=False, disable=not (table and sys.stderr.isatty()))
    rows, failed = [], False
    for each in bar:
        if each.error:
            failed = True
            print(f"sg-resnets: {one_line(each.error)}", file=sys.stderr)
        elif table is None:
            print(f"{each.path}  " + "  ".join(f"{label}  {probability:.1%}" for label, probability in each.top))
        else:
            row = {"file": str(each.path)}
            for place, (label, probability) in enumerate(each.top, 1):
                ending = f"_{place}" if place > 1 else ""
                row |= {f"prediction{ending}": label, f"probability{ending}": f"{probability:.4f}"}
            rows.append(row)
    if table is not None:
        write_rows(rows, table)
        print(f"{table}: {len(rows):,} images")
    sys.exit(failed)


@app.command()
def check(folder: Annotated[Path, typer.Argument(help="Of pictures: one that a recipe takes, or any other.")]) -> None:
    """Say what a folder of pictures holds, and name all damaged pictures; exit code 1 if there are any."""
    from sg_resnets.runs.check import check_folder

    lines, damaged = check_folder(folder)
    print("\n".join(lines))
    sys.exit(damaged)


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
    from sg_resnets.course.experiments import run_experiment
    from sg_resnets.course.setups import COURSE, PAPER

    finding = run_experiment(name, budget, folder / name, PAPER if full else COURSE)
    print(finding.paragraph)
    print(f"Picture, table and text: {folder / name}")


@app.command()
def doctor() -> None:
    """Say what is installed, which repairs are active, what can train here; exit code 1 if nothing can."""
    from sg_resnets.host.doctor import examine

    sys.exit(examine())


if __name__ == "__main__":
    main()
