"""An experiment of the course trains in two processes."""

from pathlib import Path


def test_the_command_trains_and_prints_the_paragraph(sg_resnets_command, tmp_path):
    """The real thing, once: two processes train with the host's Trainer."""
    code = (
        "from pathlib import Path\n"
        "from sg_resnets.course import setups\n"
        "setup = setups.Setup(setups.COURSE.recipe, {'in_channels': 1}, 'fashion_mnist_mini', 14, 600, 1)\n"
        "small = ('arch_params.widths=[4,4,8]', 'dataset_params.train_dataset_params.max_samples=600')\n"
        "jobs = [setups.Job(f'{kind}20_cifar', 3, small, setup=setup) for kind in ('plain', 'resnet')]\n"
        "if __name__ == '__main__':\n"
        "    for network, records in setups.train_all(jobs, Path('runs')):\n"
        "        print(network.config.shortcut, network.config.widths, len(records), records[0].train_accuracy > 0)\n"
    )
    import subprocess
    import sys

    (tmp_path / "small.py").write_text(code)
    done = subprocess.run([sys.executable, "small.py"], cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.stdout.splitlines() == ["none (4, 4, 8) 1 True", "A (4, 4, 8) 1 True"], done.stderr[-2000:]
    runs = sorted(path.name for path in Path(tmp_path, "runs").iterdir())
    assert len(runs) == 2 and all("seed_3" in name or "seed" in name for name in runs)
