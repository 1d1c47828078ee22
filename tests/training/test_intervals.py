import pytest

from sg_resnets.training.intervals import Interval
from sg_resnets.utils.errors import SgResnetsError


@pytest.mark.parametrize(
    "text, seconds, steps", [("10min", 600, None), ("1.5 h", 5400, None), ("30s", 30, None), ("500steps", None, 500)]
)
def test_an_interval_is_of_time_or_of_steps(text, seconds, steps):
    interval = Interval.parse(text)
    assert (interval.seconds, interval.steps) == (seconds, steps)


@pytest.mark.parametrize("text", ["10", "10 minutes", "0min", "-1steps", "1.5steps", 10, True, ""])
def test_what_is_none_is_one_line(text):
    with pytest.raises(SgResnetsError, match="must be a time or a number of steps, such as 10min"):
        Interval.parse(text)


def test_it_ends_and_begins_again(monkeypatch):
    of_steps = Interval.parse("3steps")
    assert [step for step in range(8) if of_steps.is_over(step) and not of_steps.begin(step)] == [3, 6]
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    of_time = Interval.parse("1min")
    for now[0], over in ((59.0, False), (60.0, True)):
        assert of_time.is_over(1) == over
    of_time.begin(1)
    assert not of_time.is_over(2) and not Interval.parse(None).is_over(10**9)
