"""The wheel alone trains, and writes new recipes, in an environment whose path has a blank."""

import subprocess
import sys

import pytest

from support import RECIPE, ROOT, SMALL_RUN


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_alone_trains_a_recipe_from_another_folder(wheel, tmp_path, run_python):
    """An environment that has our dependencies but not our source tree."""
    import sysconfig
    import venv

    venv.create(tmp_path / "my env", with_pip=False)
    python = tmp_path / "my env" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = tmp_path / "my env" / ("Lib/site-packages" if sys.platform == "win32" else f"lib/{version}/site-packages")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    # Everything else from here; as a plain path, so that this environment's own .pth files are not read.
    (site / "zz_dependencies.pth").write_text(sysconfig.get_paths()["purelib"])
    where = "import sg_resnets; print(sg_resnets.__file__)"
    assert str(site) in subprocess.run([python, "-c", where], cwd=tmp_path, capture_output=True, text=True).stdout
    command = [python, "-m", "super_gradients.train_from_recipe", RECIPE, *SMALL_RUN, "epochs=1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("checkpoints/*/RUN_*/ckpt_best.pth"))
    new = "from sg_resnets.cli import main; import sys; sys.argv = ['x', 'new', 'mine', '--from', '%s']; main()"
    done = subprocess.run([python, "-c", new % RECIPE.partition("=")[2]], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "architecture: resnet20_cifar" in (tmp_path / "mine.yaml").read_text()
