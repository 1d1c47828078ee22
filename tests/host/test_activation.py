"""Importing: half-imported, of another version, or by ourselves."""

import sys

import pytest

from sg_resnets.utils.errors import SgResnetsError


def test_a_half_imported_host_is_left_alone(monkeypatch):
    from types import ModuleType

    from hydra._internal.config_search_path_impl import ConfigSearchPathImpl

    from hydra_plugins.sg_resnets_searchpath import SgResnetsSearchPath
    from sg_resnets.host import activation as host

    monkeypatch.setitem(sys.modules, "super_gradients", ModuleType("super_gradients"))  # as in its __init__: no __all__
    monkeypatch.setattr(host, "activate", lambda: pytest.fail("activated in a half-imported host"))
    path = ConfigSearchPathImpl()
    SgResnetsSearchPath().manipulate_search_path(path)
    assert path.get_path() == []


def test_importing_sg_resnets_is_light(run_python, tmp_path):
    code = "import sys, sg_resnets; print([m for m in ('torch', 'hydra', 'super_gradients') if m in sys.modules])"
    assert run_python("-c", code, cwd=tmp_path).stdout == "[]\n"


def test_a_foreign_hydra_application_imports_neither_the_host_nor_torch(run_python, tmp_path):
    (tmp_path / "app.py").write_text(
        "import sys, hydra\n"
        "@hydra.main(version_base='1.3', config_path=None)\n"
        "def main(cfg):\n"
        "    from hydra.core.hydra_config import HydraConfig\n"
        "    sources = [s.provider for s in HydraConfig.get().runtime.config_sources]\n"
        "    print(sources, [m for m in ('super_gradients', 'torch') if m in sys.modules])\n"
        "main()\n"
    )
    assert run_python("app.py", cwd=tmp_path).stdout == "['hydra', 'schema'] []\n"


def test_another_version_of_the_host_is_refused_in_one_line(run_python, tmp_path):
    code = (
        "import sys, types; host = types.ModuleType('super_gradients'); host.__version__, host.__all__ = '3.6.0', []\n"
        "sys.modules['super_gradients'] = host; from sg_resnets.host import activation; activation.activate()"
    )
    done = run_python("-c", code, cwd=tmp_path)
    assert "3.6.0 is installed but 3.7.1 is needed: pip install --no-deps" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_repair_that_does_not_exist_cannot_be_switched_off_unseen(monkeypatch, command):
    from sg_resnets.host import activation

    monkeypatch.setenv("SG_RESNETS_WITHOUT", "int8, interrupt")
    assert activation.switched_off(["int8", "interrupt", "names"]) == {"int8", "interrupt"}
    lines = command("doctor")[1].splitlines()
    assert [line.split()[0] for line in lines if "SWITCHED OFF" in line] == ["interrupt", "int8"]
    monkeypatch.setenv("SG_RESNETS_WITHOUT", "int")
    with pytest.raises(SgResnetsError, match="SG_RESNETS_WITHOUT=int: there is no such repair; did you mean int8"):
        activation.switched_off(["int8", "interrupt", "names"])
