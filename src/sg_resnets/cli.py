"""The `sg-resnets` command. What only lists imports neither torch nor the host; training is the host's entry point."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from sg_resnets.errors import SgResnetsError, choices
from sg_resnets.host import HOST, HOST_VERSION
from sg_resnets.paths import known_recipes, our_recipes
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
    except ModuleNotFoundError as error:
        if error.name not in (HOST, "data_gradients"):
            raise
        sys.exit(
            f"sg-resnets: {error.name.replace('_', '-')} is missing; it is installed without its outdated pins: "
            f"pip install --no-deps super-gradients=={HOST_VERSION} data-gradients==0.3.2"
        )


@app.command()
def models(filter: Annotated[str, typer.Option(help="Only names that contain this.")] = "") -> None:
    """List the models: name, parameters, GMACs, input size, paper."""
    if not any(filter in name for name in ZOO):
        raise SgResnetsError(f"no model's name contains '{filter}': {choices(filter, ZOO, limit=20)}")
    print(f"{'name':<20} {'parameters':>12} {'GMACs':>8} {'input':>9}  paper")
    for name, row in ZOO.items():
        if filter in name:
            size = f"{row.input_size}x{row.input_size}x{row.config.in_channels}"
            print(f"{name:<20} {row.parameters:>12,} {row.macs / 1e9:>8.3f} {size:>9}  {row.source}")


@app.command()
def recipes() -> None:
    """List the recipes: name and what each reaches, from its header."""
    print(f"{'recipe':<30} reaches")
    for path in our_recipes():
        lines = path.read_text().splitlines()
        reaches = next(line for line in lines if line.startswith("# Reaches:"))
        print(f"{path.stem:<30} {reaches.removeprefix('# Reaches:').strip()}")


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
