"""What is installed is what is needed: our dependency list, the lock, and the host's false pins."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from sg_resnets.host.deferred_imports import real_of
from support import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
HOST = {"super-gradients": "super_gradients", "data-gradients": "data_gradients"}

# The requirements of the host (and of data-gradients, which it imports) that are not met, and need not be:
# never imported for what we do, or pinned to versions that Python >= 3.11 cannot install while later ones work.
NOT_IMPORTED = ["albumentations", "coverage", "json-tricks", "pip-tools", "sphinx", "sphinx-rtd-theme", "wheel"]
LATER_WORKS = ["einops", "numpy", "onnx", "onnxruntime", "protobuf", "termcolor", "treelib"]
NOT_IMPORTED_BY_DATA_GRADIENTS = ["coverage", "imagededup", "opencv-python", "xhtml2pdf"]  # opencv: headless instead
FALSE_PINS = {("super-gradients", name) for name in NOT_IMPORTED + LATER_WORKS}
FALSE_PINS |= {("data-gradients", name) for name in NOT_IMPORTED_BY_DATA_GRADIENTS}


def name_of(requirement):
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def dependencies():
    return {name_of(line) for line in PYPROJECT["project"]["dependencies"]}


def imported_at_the_top(package):
    """Distributions that the modules of a package, as far as `import super_gradients` loads them, import unguarded."""
    distributions, found = metadata.packages_distributions(), set()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.split(".")[0] != package or not file or not file.endswith(".py"):
            continue
        for node in ast.parse(Path(file).read_text(encoding="utf-8")).body:
            tops = []
            if isinstance(node, ast.Import):
                tops = [alias.name.split(".")[0] for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                tops = [(node.module or "").split(".")[0]]
            found |= {dist.lower().replace("_", "-") for top in tops for dist in distributions.get(top, [])[:1]}
    return found


def import_the_deferred():
    """What SuperGradients imports and we import when it is used."""
    for name, module in list(sys.modules.items()):
        for value in list(vars(module).values()) if name.split(".")[0] == "super_gradients" else ():
            real_of(value)


def test_our_dependencies_are_what_the_host_imports(host):
    import_the_deferred()
    needed = imported_at_the_top("super_gradients") | imported_at_the_top("data_gradients")
    assert needed - dependencies() - set(HOST) - {"opencv-python"} == set()
    ours = imported_at_the_top("sg_resnets") | {"typer", "torchvision", "safetensors"}
    inner = {"protobuf"}  # imported by tensorboard and onnx, held back by the host alone
    assert dependencies() - needed - ours - inner - imported_inside_functions() == set()


def imported_inside_functions():
    """Named in the host's code, but imported when used (or by a guarded import)."""
    text = "\n".join(
        Path(m.__file__).read_text()
        for n, m in list(sys.modules.items())
        if n.split(".")[0] in HOST.values() and getattr(m, "__file__", None) and m.__file__.endswith(".py")
    )
    names = {
        "onnxsim": "onnxsim",
        "onnxruntime": "onnxruntime",
        "jinja2": "jinja2",
        "tensorboard": "torch.utils.tensorboard",
    }
    return {dist for dist, module in names.items() if f"import {module}" in text or f"from {module}" in text}


@pytest.mark.parametrize("file", ["requirements.lock", "requirements-dev.lock", "requirements-site.lock"])
def test_the_lock_holds_exact_versions_and_names_no_server(file):
    lines = (ROOT / file).read_text().splitlines()
    assert all(re.match(r"^[a-z0-9.-]+==[^ ;/]+( ; .+)?$", line) for line in lines)
    assert {"torch==2.14.1", "torchvision==0.29.1", "torchmetrics==0.8.0"} <= set(lines)


def test_the_locks_that_one_environment_gets_agree():
    dev, site = (
        {tuple(line.split(" ")[0].split("==")) for line in (ROOT / file).read_text().splitlines()}
        for file in ("requirements-dev.lock", "requirements-site.lock")
    )
    names = {name for name, _ in dev} & {name for name, _ in site}
    assert "torch" in names and {pin for pin in dev if pin[0] in names} == {pin for pin in site if pin[0] in names}


def test_the_lock_holds_every_dependency_and_the_host():
    locked = {name_of(line) for line in (ROOT / "requirements.lock").read_text().splitlines()}
    assert dependencies() | set(HOST) <= locked
    assert not {"albumentations", "json-tricks", "sphinx", "pip-tools", "pycocotools", "opencv-python"} & locked


def test_pip_check_finds_the_hosts_false_pins_and_nothing_else():
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    found = set()
    for line in done.stdout.splitlines():
        match = re.match(r"(\S+) \S+ (?:requires ([A-Za-z0-9._-]+)|has requirement ([A-Za-z0-9._-]+))", line)
        assert match, line
        found.add((match[1].lower(), (match[2] or match[3]).lower()))
    assert found == FALSE_PINS


def test_the_plugin_and_the_startup_file_are_in_the_installation():
    files = {str(file) for file in metadata.files("sg-resnets") or []}
    assert any(file.endswith("sg_resnets.pth") for file in files)
    assert metadata.entry_points(group="console_scripts")["sg-resnets"].value == "sg_resnets.cli:main"
