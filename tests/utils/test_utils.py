"""What all floors stand on: checks, whole files, hooks, plugins."""

import math
import sys

import pytest
import torch
from torch import nn

from sg_resnets.utils.checks import BELOW_ONE, BOOLEAN, NOT_NEGATIVE, POSITIVE, PROBABILITY, integer, one_of
from sg_resnets.utils.errors import SgResnetsError, choices, one_line
from sg_resnets.utils.files import check_parent, make_folder, whole_file, write_bytes, write_rows
from sg_resnets.utils.hooks import outputs_of, watched
from sg_resnets.utils.plots import check_picture
from sg_resnets.utils.plugins import import_plugins


@pytest.mark.parametrize(
    "check, right, wrong",
    [
        (integer(1), [1, 10**9], [0, 1.0, "1", True, None, math.inf]),
        (integer(0, 28), [0, 27], [-1, 28]),
        (BOOLEAN, [True, False], [0, 1, "True", None]),
        (POSITIVE, [1e-9, 3], [0, -1, math.nan, True, "1"]),
        (NOT_NEGATIVE, [0, 0.5], [-1e-9, math.inf, False]),
        (PROBABILITY, [0, 1, 0.5], [1.01, -0.1]),
        (BELOW_ONE, [0, 0.99], [1, 1.0]),
        (one_of("host", "device"), ["host"], ["gpu", None]),
    ],
    ids=lambda value: getattr(value, "words", None),
)
def test_a_check_allows_what_its_words_say(check, right, wrong):
    for value in right:
        assert check("key", value) == value
    for value in wrong:
        with pytest.raises(SgResnetsError) as error:
            check("key", value)
        assert str(error.value) == f"key={value!r}: must be {check.words}"


def test_choices_name_the_similar_ones_first_and_count_the_rest():
    assert choices("lesoin", ["lesion", "identity"]) == "did you mean lesion? valid: lesion, identity"
    assert choices("x", [str(i) for i in range(20)], limit=2) == "valid: 0, 1, ... (20 in all)"
    assert one_line("a\n  b\t c") == "a b c"


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "x.txt"
    write_bytes(path, b"first")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as temporary:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"first" and [file.name for file in tmp_path.iterdir()] == ["x.txt"]
    write_rows([{"a": 1, "b": "x,y"}, {"a": 2, "b": ""}], tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text().splitlines() == ["a,b", '1,"x,y"', "2,"]


def test_of_a_link_the_file_that_it_points_to_is_written(tmp_path):
    (tmp_path / "other").mkdir()
    link, file = tmp_path / "link.txt", tmp_path / "other" / "file.txt"
    link.symlink_to(file)
    for contents in (b"first", b"second"):
        write_bytes(link, contents)
        assert link.is_symlink() and file.read_bytes() == contents
    assert len(list(tmp_path.rglob("*"))) == 3


def test_a_place_that_cannot_be_written_to_is_a_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SgResnetsError, match="there is no folder"):
        check_parent(tmp_path / "none" / "x.onnx")
    with pytest.raises(SgResnetsError, match="there is no folder"):
        write_rows([{"a": 1}], tmp_path / "none" / "x.csv")
    with pytest.raises(SgResnetsError, match="is a folder: name the file to write"):
        check_parent(tmp_path)
    with pytest.raises(SgResnetsError, match=r"--folder=.*cannot be made \(Not a directory\)"):
        make_folder(tmp_path / "file" / "x", "--folder")
    with pytest.raises(SgResnetsError, match=r"ends in \.png, \.svg or \.pdf"):
        check_picture(tmp_path / "x.jpg")


def test_outputs_are_copied_and_hooks_are_gone_afterwards():
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU(inplace=True))
    x = torch.tensor([[1.0, -1.0]])
    with torch.no_grad(), outputs_of(network, ["0"]) as outputs:
        network(x)
    assert torch.equal(outputs["0"], network[0](x))  # before the ReLU that wrote into it
    with pytest.raises(ZeroDivisionError), watched(network, ["0", "1"], lambda *call: 1 / 0):
        network(x)
    assert network(x).shape == (1, 2)


def test_plugins_are_looked_for_in_the_current_folder_after_what_is_installed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "json.py").write_text("raise SystemExit('run')")
    (tmp_path / "my_plugin.py").write_text("value = 3")
    before = list(sys.path)
    import_plugins([])
    assert sys.path == before
    import_plugins(["my_plugin", "json"])
    assert sys.path == [*before, str(tmp_path)] and sys.modules.pop("my_plugin").value == 3
    with pytest.raises(SgResnetsError, match="there is no module 'none'"):
        import_plugins(["none"])
    with pytest.raises(SgResnetsError, match=r"there is no module 'json\.x\.y'"):
        import_plugins(["json.x.y"])


@pytest.mark.parametrize("name", ["", ".x", "x.", 1, None])
def test_what_names_no_module_is_no_plugin(name):
    with pytest.raises(SgResnetsError, match=f"plugins={name!r}: must be the name of a module"):
        import_plugins([name])


def test_what_a_killed_process_left_is_removed_and_what_another_machine_writes_is_not(tmp_path):
    import platform
    import subprocess
    import sys

    from sg_resnets.utils.files import write_bytes

    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    own, others = (f"{node}.{ended.pid}.sg_resnets.tmp" for node in (platform.node(), "elsewhere"))
    for name in (f"x.bin.{own}", f"previous.{own}", f"x.bin.{others}", f"x.bin.{ended.pid}.tmp"):
        (tmp_path / name).touch()
    write_bytes(tmp_path / "x.bin", b"1")
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["x.bin", f"x.bin.{ended.pid}.tmp", f"x.bin.{others}"]
