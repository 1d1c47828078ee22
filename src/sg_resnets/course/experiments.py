"""The course's experiments, each run end to end: train what it needs, measure, draw, and say what this run showed.

An experiment writes `<name>.png`, `<name>.csv` and `<name>.md` into its folder. Networks are trained by SuperGradients'
Trainer, by default with the recipe `course_fashion_mnist_14px`. What a budget of minutes buys is more seeds, or a finer
picture; one seed is always finished.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sg_resnets.course import claims, degradation
from sg_resnets.course.setups import COURSE, Job, Setup, load_images, train_all, untrained
from sg_resnets.diagnostics import gradient_flow, identity, landscape, lesion, shattered
from sg_resnets.models import ResNet
from sg_resnets.runs.curves import EpochRecord, draw_runs
from sg_resnets.utils.checks import POSITIVE
from sg_resnets.utils.errors import SgResnetsError, choices
from sg_resnets.utils.files import make_folder, write_bytes, write_rows
from sg_resnets.utils.plots import save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class Budget:
    """Minutes that may be spent; `allows` asks whether as long again as the last step took is left."""

    minutes: float
    began: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds."""
        return 60 * self.minutes - (time.monotonic() - self.began)

    def seeds(self, most: int) -> Iterator[int]:
        """0, 1, ...: the first always, each further one if there is time for what the last one took."""
        for seed in range(most):
            before = time.monotonic()
            yield seed
            if self.left < time.monotonic() - before:
                return


@dataclass(frozen=True)
class Finding:
    """What an experiment showed: `claim` as the course states it, whether this run `supports` it, the figures, a table,
    the picture."""

    claim: str
    supports: bool
    figures: str
    rows: list[dict[str, Any]]
    picture: "Figure"

    @property
    def paragraph(self) -> str:
        verdict = "This run supports it." if self.supports else "This run does not support it."
        return f"Claim: {self.claim}\n{self.figures}\n{verdict}"


def _mean(shares: Iterable[float], unit: str = "%") -> str:
    """'87.2 +- 0.4 %' (standard deviation), or '87.2 %' of one value; `unit` is % or points."""
    numbers = [100 * share for share in shares]
    spread = f" +- {statistics.stdev(numbers):.1f}" if len(numbers) > 1 else ""
    return f"{statistics.fmean(numbers):.1f}{spread} {unit}"


def _seeds(values: Sequence[Any]) -> str:
    return f"{len(values)} seed{'s' * (len(values) != 1)}"


def run_degradation(budget: Budget, folder: Path, setup: Setup = COURSE, depths: tuple[int, int] = (20, 56)) -> Finding:
    """He et al. 2015, figures 1 and 6."""
    names = {f"{kind}-{depth}": f"{kind}{depth}_cifar" for depth in reversed(depths) for kind in ("plain", "resnet")}
    curves: dict[str, list[list[EpochRecord]]] = {name: [] for name in sorted(names)}
    for seed in budget.seeds(5):
        trained = train_all([Job(architecture, seed, setup=setup) for architecture in names.values()], folder)
        for name, (_, records) in zip(names, trained, strict=True):
            curves[name].append(records)
    final = {name: [run[-1].train_accuracy for run in runs] for name, runs in curves.items()}
    gap = {kind: _difference(final, f"{kind}-{depths[1]}", f"{kind}-{depths[0]}") for kind in ("plain", "resnet")}
    worse = -100 * gap["plain"]
    title = f"The deeper plain net trains {worse:.0f} points worse, the deeper residual net {100 * gap['resnet']:+.1f}"
    return Finding(
        "a deeper plain net trains worse than a shallow one, and not by overfitting: its training accuracy is lower; "
        "with shortcuts the deeper net is no worse.",
        claims.degradation(gap),
        "Training accuracy in the last epoch, "
        + ", ".join(f"{name} {_mean(values)}" for name, values in final.items())
        + f" ({_seeds(next(iter(final.values())))}).",
        degradation.rows(curves),
        draw_runs(curves.items(), title),
    )


def _difference(values: dict[str, list[float]], one: str, other: str) -> float:
    return statistics.fmean(values[one]) - statistics.fmean(values[other])


KINDS: dict[str, dict[str, Any]] = {
    "plain, batch-norm": {"shortcut": "none"},
    "residual, batch-norm": {},
    "plain, no norm": {"shortcut": "none", "norm": "none"},
    "residual, no norm": {"norm": "none"},
}


def run_gradients(budget: Budget, folder: Path, setup: Setup = COURSE, depth: int = 56) -> Finding:
    """He et al. 2015, section 4.1; Glorot & Bengio 2010, figure 7."""
    kinds = {**KINDS, "plain, no norm, small weights": KINDS["plain, no norm"]}
    images, labels = load_images(setup, train=True, count=128)
    flows: dict[str, list[gradient_flow.BlockGradient]] = {}
    ratios: dict[str, dict[str, list[float]]] = {kind: {"weights": [], "output": []} for kind in kinds}
    for seed in budget.seeds(10):
        for kind, arch in kinds.items():
            network = untrained(f"resnet{depth}_cifar", seed, setup, **arch)
            if "small" in kind:
                with torch.no_grad():  # to a sixth of He's variance, as PyTorch initialises by default
                    for convolution in (m for m in network.modules() if isinstance(m, nn.Conv2d)):
                        convolution.weight /= 6**0.5
            flow = gradient_flow.gradient_flow(network, images, labels)
            flows.setdefault(kind, flow)
            for of in ("weights", "output"):
                ratios[kind][of].append(gradient_flow.first_to_last(flow, of))
    middle = {of: {kind: statistics.median(ratios[kind][of]) for kind in kinds} for of in ("weights", "output")}
    change = {
        kind: "explode" if middle["output"][f"plain, {kind}"] > 1 else "vanish" for kind in ("batch-norm", "no norm")
    }
    return Finding(
        "in a deep plain net the gradient changes by orders of magnitude on its way back: without batch-norm it "
        "vanishes, with batch-norm it explodes; shortcuts together with batch-norm keep it far more even.",
        claims.gradients(middle["weights"], middle["output"]),
        f"{depth} layers at initialisation, the first block's gradient over the last one's, median of "
        f"{_seeds(ratios['plain, batch-norm']['output'])}: of the weights "
        + ", ".join(f"{kind} {middle['weights'][kind]:.2g}" for kind in kinds if "no norm" not in kind)
        + "; of the outputs "
        + ", ".join(f"{kind} {value:.2g}" for kind, value in middle["output"].items())
        + ". He et al. hold that in nets with batch-norm degradation is not a matter of vanishing gradients; here they "
        f"{change['batch-norm']} with it.",
        [{"network": kind, **vars(block)} for kind, flow in flows.items() for block in flow],
        gradient_flow.draw_gradient_flow(
            flows,
            f"{depth} layers, untrained: plain gradients {change['batch-norm']} with batch-norm, "
            f"and {change['no norm']} without",
        ),
    )


def run_shattered(budget: Budget, folder: Path, setup: Setup = COURSE) -> Finding:
    """Balduzzi et al. 2017, figure 1."""
    images, _ = load_images(setup, train=True, count=500)
    nets = {"plain-8": ("plain", 8), "plain-56": ("plain", 56), "resnet-56": ("resnet", 56)}
    curves: dict[str, list[Tensor]] = {name: [] for name in nets}
    for seed in budget.seeds(10):
        for name, (kind, depth) in nets.items():
            network = shattered.calibrated(untrained(f"{kind}20_cifar", seed, setup, depth=depth), images)
            curves[name].append(shattered.gradient_autocorrelation(network, images[seed], images[-1 - seed]))
    means = {name: torch.stack(rows) for name, rows in curves.items()}
    autocorrelation = {name: rows[:, 8].mean().item() for name, rows in means.items()}
    shown = ", ".join(f"{name} {autocorrelation[name]:.2f}" for name in ("plain-56", "resnet-56"))
    title = f"How alike neighbouring gradients are: {shown}"
    return Finding(
        "the gradient of a deep plain net shatters: at neighbouring inputs it is like white noise; in a shallow or a "
        "residual net it is not.",
        claims.shattered(autocorrelation),
        "Autocorrelation of the gradient 8 of 255 steps apart, on a line between two images, at initialisation, "
        + ", ".join(f"{name} {value:.2f}" for name, value in autocorrelation.items())
        + f" (mean of {_seeds(curves['plain-8'])}).",
        [
            {"network": name, "distance": lag, "autocorrelation": value}
            for name, rows in means.items()
            for lag, value in enumerate(rows.mean(0).tolist())
        ],
        shattered.draw_autocorrelation(means, title),
    )


Networks = Mapping[str, ResNet]  # trained ones, by the name of the architecture without its ending: "resnet56"


def _trained(
    names: Sequence[str], folder: Path, setup: Setup, seed: int = 0, networks: Networks | None = None
) -> Networks:
    """The networks of these names, from `networks` if there are some, else trained."""
    if networks is None:
        trained = train_all([Job(f"{name}_cifar", seed, setup=setup) for name in names], folder)
        return {name: network for name, (network, _) in zip(names, trained, strict=True)}
    missing = [name for name in names if name not in networks]
    if missing:
        raise SgResnetsError(f"networks has no {', '.join(missing)}: this experiment looks at {', '.join(names)}")
    return {name: networks[name] for name in names}


def run_identity(budget: Budget, folder: Path, setup: Setup = COURSE, networks: Networks | None = None) -> Finding:
    """He et al. 2015, figure 7 and section 1."""
    images, labels = load_images(setup)
    responses: dict[str, list[identity.BranchResponse]] = {}
    trained = _trained(("resnet56", "plain20", "resnet20"), folder, setup, networks=networks)
    for name, network in trained.items():
        responses[name] = identity.branch_responses(network, images)
        if "plain" not in name:
            before = shattered.calibrated(untrained(f"{name}_cifar", setup=setup), images)
            responses[f"{name}, untrained"] = identity.branch_responses(before, images)
    shallow = trained["resnet20"]
    deeper = identity.deepen(shallow, (9, 9, 9))
    with torch.no_grad():
        difference = (shallow.eval()(images) - deeper.eval()(images)).abs().max().item()
    residual = {name: rows for name, rows in responses.items() if "plain" not in name}
    middle = {name: statistics.median(row.relative for row in rows) for name, rows in residual.items()}
    shares = ", ".join(f"{name} {100 * value:.0f} %" for name, value in middle.items())
    accuracy, deepened = (_mean([lesion.accuracy(network, images, labels)]) for network in (shallow, deeper))
    title = f"What a branch adds to what flows past it, median over the blocks:\n{shares}"
    return Finding(
        "each branch of a residual net adds less than flows past it, and less in a deeper net, trained or not: what "
        "flows past grows with every block; and a deeper net can start as a shallower one, its new blocks the "
        "identity.",
        claims.identity(middle, difference),
        f"Size of F(x) over that of what the shortcut carries, median over the blocks: {shares}. resnet20 made "
        f"56 layers deep by blocks of zero branch: the logits differ by at most {difference:.1g}; accuracy "
        f"before {accuracy}, after {deepened}.",
        [{"network": name, **vars(row)} for name, rows in responses.items() for row in rows],
        identity.draw_responses(responses, title),
    )


def run_lesion(budget: Budget, folder: Path, setup: Setup = COURSE, networks: Networks | None = None) -> Finding:
    """Veit et al. 2016, section 4.1. One seed if there are trained networks."""
    images, labels = load_images(setup)
    results: dict[str, dict[str, float]] = {}
    losses: dict[str, list[float]] = {}
    for seed in budget.seeds(3 if networks is None else 1):
        trained = _trained(("resnet56", "resnet20", "plain20"), folder, setup, seed, networks)
        for name, network in trained.items():
            accuracies = lesion.lesion(network, images, labels)
            results.setdefault(name, accuracies)
            losses.setdefault(name, []).append(lesion.mean_loss(accuracies))
    cost = {name: statistics.fmean(values) for name, values in losses.items()}
    title = "Deleting a block costs, on average:\n" + ", ".join(f"{n} {100 * c:.0f} points" for n, c in cost.items())
    worst = {name: min(accuracies, key=accuracies.__getitem__) for name, accuracies in results.items()}
    return Finding(
        "a residual net is like an ensemble of shallow ones: on average it loses little with one of its blocks, a "
        "plain net of the same depth nearly all.",
        claims.lesion(cost),
        "Test accuracy lost by deleting one block, mean over the blocks, "
        + ", ".join(f"{name} {_mean(values, 'points')}" for name, values in losses.items())
        + f" ({_seeds(losses['plain20'])}). The worst block, in the first: "
        + ", ".join(f"{name} {block}, {_mean([results[name][block]])} are left" for name, block in worst.items())
        + ".",
        [{"network": name, "deleted": block, "accuracy": a} for name, r in results.items() for block, a in r.items()],
        lesion.draw_lesion(results, title),
    )


def run_landscape(
    budget: Budget, folder: Path, setup: Setup = COURSE, networks: Networks | None = None, steps: int | None = None
) -> Finding:
    """Li et al. 2018, figure 1."""
    images, labels = load_images(setup, train=True, count=500)
    trained = _trained(("plain56", "resnet56"), folder, setup, networks=networks)
    before = time.monotonic()
    landscape.loss_line(trained["resnet56"], images, labels, steps=5)
    second = (time.monotonic() - before) / 5
    steps = steps or int(min(51, max(11, (max(budget.left, 0) / (2 * second)) ** 0.5))) | 1  # odd: with the centre
    surfaces = {
        name.replace("56", "-56"): landscape.loss_surface(network, images, labels, steps)
        for name, network in trained.items()
    }
    bent = {name: landscape.nonconvex_share(losses) for name, (_, losses) in surfaces.items()}
    shares = " and ".join(f"{100 * value:.0f} % for {name}" for name, value in bent.items())
    return Finding(
        "shortcuts make the loss landscape smoother: around a trained residual net it is nearly convex, around a plain "
        "net of the same depth it is not.",
        claims.landscape(bent),
        f"Share of the places ({steps} x {steps} points, one filter-normalised step each way, loss below 10 nats) "
        f"where the loss bends downwards: {shares}. At the centre it is "
        + ", ".join(f"{name} {losses[steps // 2, steps // 2]:.2f}" for name, (_, losses) in surfaces.items())
        + " nats.",
        [
            {"network": name, "x": positions[j].item(), "y": positions[i].item(), "loss": losses[i, j].item()}
            for name, (positions, losses) in surfaces.items()
            for i in range(steps)
            for j in range(steps)
        ],
        landscape.draw_landscapes(surfaces, f"Places where the loss bends downwards: {shares}"),
    )


_GATES = ("scaled", "exclusive_gate", "shortcut_gate", "dropout")
_ORDERS = ("bn_after_addition", "relu_before_addition", "relu_only_preact", "full_preact")
MENU: dict[str, tuple[str, ...]] = {
    "original": (),
    **{f"addition {name}": (f"+arch_params.addition={name}",) for name in _GATES},
    "1x1 conv shortcut": ("+arch_params.shortcut=C",),
    **{f"order {name}": (f"+arch_params.order={name}",) for name in _ORDERS},
}


def run_shortcuts(budget: Budget, folder: Path, setup: Setup = COURSE, depth: int = 56) -> Finding:
    """He et al. 2016, tables 1 and 2."""
    accuracies: dict[str, list[float]] = {}
    for seed in budget.seeds(3):
        trained = train_all([Job(f"resnet{depth}_cifar", seed, menu, setup=setup) for menu in MENU.values()], folder)
        for name, (_, records) in zip(MENU, trained, strict=True):
            accuracies.setdefault(name, []).append(records[-1].test_accuracy)
    mean = {name: statistics.fmean(values) for name, values in accuracies.items()}
    menu = {name: value for name, value in mean.items() if not name.startswith("order")}
    better = [name for name, value in menu.items() if value > menu["original"]]
    title = "Better than the plain identity: " + (", ".join(better) if better else "none of the other shortcuts")
    return Finding(
        "the identity is the best shortcut: scaling, gating, a convolution or dropout on it make the net worse.",
        claims.shortcuts(menu),
        "Test accuracy in the last epoch, "
        + ", ".join(f"{name} {_mean(values)}" for name, values in accuracies.items())
        + f" ({_seeds(accuracies['original'])}). The paper's nets have 110 layers, its data is CIFAR-10.",
        [
            {"variant": name, "seed": i, "accuracy": a}
            for name, values in accuracies.items()
            for i, a in enumerate(values)
        ],
        degradation.draw_accuracies(accuracies, title),
    )


EXPERIMENTS: dict[str, Callable[..., Finding]] = {
    "degradation": run_degradation,
    "gradients": run_gradients,
    "shattered": run_shattered,
    "identity": run_identity,
    "lesion": run_lesion,
    "landscape": run_landscape,
    "shortcuts": run_shortcuts,
}


_LOOK_AT_TRAINED = ("identity", "lesion", "landscape")


def run_experiment(
    name: str, minutes: float, folder: Path, setup: Setup = COURSE, networks: Networks | None = None
) -> Finding:
    """Run an experiment and write its picture, table and paragraph into `folder`. Three of them ("identity", "lesion",
    "landscape") can look at `networks` that are trained already, by name, such as "resnet56".

    Raises:
        SgResnetsError: there is no such experiment, no time for it, or it does not look at these networks.
    """
    if name not in EXPERIMENTS:
        raise SgResnetsError(f"unknown experiment '{name}': {choices(name, EXPERIMENTS)}")
    POSITIVE("--budget", minutes)
    make_folder(folder, "--folder")
    if networks is not None and name not in _LOOK_AT_TRAINED:
        raise SgResnetsError(f"experiment '{name}' trains its own networks: {', '.join(_LOOK_AT_TRAINED)} take others")
    given = {} if networks is None else {"networks": networks}
    finding = EXPERIMENTS[name](Budget(minutes), folder / "runs", setup, **given)
    save_figure(finding.picture, folder / f"{name}.png")
    write_rows(finding.rows, folder / f"{name}.csv")
    write_bytes(folder / f"{name}.md", f"# {name}\n{finding.paragraph}\n".encode())
    return finding
