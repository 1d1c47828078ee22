"""Overrides with paths that Hydra's grammar cannot read."""

import shlex

import pytest


@pytest.fixture
def parse(host):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return lambda override: OverridesParser.create().parse_overrides([override])[0]


@pytest.mark.parametrize(
    "name", ["José (1)", "图片", "a=b", "x#y", "it's", "p&q", "[v2]", 'a"b', "a, b", "a{b}", "100%;", "plain", "a b"]
)
def test_a_path_that_exists_is_taken_as_it_is(parse, tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    assert parse(f"+data.root={folder}").value() == str(folder)


def test_the_home_folder(parse, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse("ckpt_root_dir=~/not/there").value() == f"{tmp_path}/not/there"
    assert parse("root=~").value() == str(tmp_path)
    assert parse("~training_hyperparams.ema").is_delete()


def test_all_else_is_hydras(parse):
    for override in ("lr=0.1,0.2", "root=/a,/b", "experiment_name=2024_01", "x=[1,2]", "x={a: 1}", "x='a=b'"):
        value = parse(override)
        assert value.input_line == override
    assert parse("lr=0.1,0.2").is_sweep_override() and parse("root=/a,/b").is_sweep_override()


@pytest.mark.parametrize("value", ["/not/there/José", "a=b", "it's", 'a"b=c', "~/a,~/b"])
def test_what_is_no_path_is_refused_with_the_quotes_it_needs(parse, value):
    from hydra.errors import CompactHydraException

    with pytest.raises(CompactHydraException, match="must be in quotes") as refused:
        parse(f"key={value}")
    message = str(refused.value)
    (typed,) = shlex.split(message.partition("in a shell: ")[2])
    assert parse(typed).value() == value and len(message.splitlines()) == 1


def test_a_list_is_not_put_in_quotes(parse):
    from hydra.errors import CompactHydraException

    with pytest.raises(CompactHydraException, match="a text in it") as refused:
        parse("plugins=[a=b]")
    assert "Lexer" not in str(refused.value)
    with pytest.raises(CompactHydraException, match="'epochs' is no override: write KEY=VALUE"):
        parse("epochs")
