"""The `sg-resnets` command. What only lists imports neither torch nor the host; training is the host's entry point."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from sg_resnets.errors import SgResnetsError, choices
from sg_resnets.paths import recipes_path
from sg_resnets.zoo import ZOO

app = typer.Typer(
    help="Residual networks for SuperGradients: list, train, resume, evaluate, predict.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Overrides = Annotated[list[str] | None, typer.Argument(help="Hydra overrides, such as lr=0.05 epochs=3")]


def main() -> None:
    """Run the command; a mistake of the user is one line and exit code 1."""
    try:
        app()
    except SgResnetsError as error:
        sys.exit(f"sg-resnets: {' '.join(str(error).split())}")


@app.command()
def models(filter: Annotated[str, typer.Option(help="Only names that contain this.")] = "") -> None:
    """List the models: name, parameters, GMACs, input size, paper."""
    print(f"{'name':<20} {'parameters':>12} {'GMACs':>8} {'input':>9}  paper")
    for name, row in ZOO.items():
        if filter in name:
            size = f"{row.input_size}x{row.input_size}x{row.config.in_channels}"
            print(f"{name:<20} {row.parameters:>12,} {row.macs / 1e9:>8.3f} {size:>9}  {row.source}")


@app.command()
def recipes() -> None:
    """List the recipes: name and what each reaches, from its header."""
    print(f"{'recipe':<30} reaches")
    for path in sorted(recipes_path().glob("*.yaml")):
        header = [line[2:].strip() for line in path.read_text().splitlines() if line.startswith("# ")]
        reaches = [line.removeprefix("Reaches:").strip() for line in header if line.startswith("Reaches:")]
        if reaches:
            print(f"{path.stem:<30} {reaches[0]}")


@app.command()
def train(recipe: str, overrides: Overrides = None) -> None:
    """Train a recipe: `python -m super_gradients.train_from_recipe --config-name=RECIPE OVERRIDES`."""
    import runpy

    known = [path.stem for path in recipes_path().glob("*.yaml")]
    module = "super_gradients.train_from_recipe"
    sys.argv = [module, f"--config-name={recipe}", *(overrides or [])]
    if recipe not in known:
        _hosts_recipe(recipe, known)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _hosts_recipe(recipe: str, ours: list[str]) -> None:
    """Refuse a name that is neither ours nor the host's, without importing the host."""
    from importlib.util import find_spec

    spec = find_spec("super_gradients")
    folders = spec.submodule_search_locations if spec else None
    hosts = [path.stem for folder in folders or [] for path in Path(folder, "recipes").glob("*.yaml")]
    if recipe not in hosts:
        raise SgResnetsError(f"unknown recipe '{recipe}': {choices(recipe, ours)}")


@app.command()
def resume(run: Path, overrides: Overrides = None) -> None:
    """Go on with a run: RUN is its folder, or its experiment's (then the latest run). Overrides: epochs=20 ..."""
    from sg_resnets.runs import resume_run

    resume_run(run, overrides or [])


@app.command()
def evaluate(run: Annotated[Path, typer.Argument(help="A run's folder, an experiment's, or a checkpoint.")]) -> None:
    """Evaluate a checkpoint (of a run: the best one) on its recipe's test data, and print a table."""
    from sg_resnets.runs import evaluate_checkpoint

    for name, value in evaluate_checkpoint(run):
        print(f"{name:<18} {value}")


@app.command()
def predict(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint, or a run's or experiment's folder.")],
    images: Annotated[list[Path], typer.Argument(help="Image files of any size.")],
) -> None:
    """Name what is in each image, with its probability."""
    from sg_resnets.runs import predict_images

    for image, label, probability in predict_images(checkpoint, images):
        print(f"{image}  {label}  {probability:.1%}")


@app.command()
def doctor() -> None:
    """Say what is installed, which repairs are active, what can train here; exit code 1 if nothing can."""
    from sg_resnets.doctor import examine

    sys.exit(examine())
