"""A lesson that is run out of order, in a real kernel."""

import pytest
from jupyter_client.manager import start_new_kernel


@pytest.fixture(scope="module")
def run():
    """run(code) -> (the status of the cell, what it says)."""
    manager, client = start_new_kernel(kernel_name="python3")

    def execute(code):
        said = []

        def hear(message):
            said.append("".join(message["content"].get("traceback", [])) + message["content"].get("text", ""))

        reply = client.execute_interactive(code, timeout=120, output_hook=hear)
        return reply["content"]["status"], "".join(said)

    try:
        status, said = execute("from sg_resnets.course import checks\nchecks.begin(1)")
        assert status == "ok", said
        yield execute
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.mark.parametrize(
    "code, said",
    [
        ("checks.plain_net(plain_net)", "there is no plain_net: first run the cells from the top down to 'Write it: a"),
        ("guess = deep", 'guess is a word, so in quotes: "deep"'),
        ("guess=both  # your turn", 'guess is a word, so in quotes: "both"'),
        ("print(train(8, 0))", "there is no train: first run the cells from the top down to 'Shallow against deep'"),
        ("def plain_net(layers):\n    ...  # your turn\nchecks.plain_net(plain_net)", "gives nothing back"),
        ("checks.plain_net(lambda layers: nothing)", "ends with NameError: name 'nothing' is not defined"),
    ],
)
def test_a_cell_that_comes_too_early_or_is_not_written_is_one_line_and_an_error(run, code, said):
    status, words = run(code)
    assert status == "error" and words.startswith("Not yet: ") and said in words and "\n" not in words


def test_other_errors_are_pythons(run):
    for code, said in (("no_such_name", "name 'no_such_name' is not defined"), ("1 / 0", "division by zero")):
        status, words = run(code)
        assert status == "error" and said in words and "Traceback" in words
