"""Who gives no new sign is silent after its time, and nobody is because the one who looks had slept."""

from loadgen.silence import Silence


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def read_s(self) -> float:
        return self.now_s


def look_each_second(silence: Silence, clock: Clock, seconds: int, *signs: object) -> list[list[int]]:
    """What is said each second while the first process gives ever new signs and the others the same."""
    said = []
    for _ in range(seconds):
        clock.now_s += 1.0
        said.append(silence.look({0: clock.now_s, **dict(enumerate(map(str, signs), start=1))}))
    return said


def test_who_gives_no_new_sign_is_silent_after_its_time_and_the_others_are_not() -> None:
    clock = Clock()
    silence = Silence(10.0, clock.read_s)
    said = look_each_second(silence, clock, 12, "as before")
    assert said == [[]] * 10 + [[1]] * 2  # the first look is its first sign, the second one second later


def test_a_new_sign_ends_a_silence() -> None:
    clock = Clock()
    silence = Silence(10.0, clock.read_s)
    assert look_each_second(silence, clock, 9, "a") == [[]] * 9
    assert look_each_second(silence, clock, 10, "b") == [[]] * 10
    assert look_each_second(silence, clock, 1, "b") == [[1]]


def test_a_machine_that_stalls_as_a_whole_makes_nobody_silent() -> None:
    clock = Clock()
    silence = Silence(10.0, clock.read_s)
    silence.look({1: "a"})
    clock.now_s += 3600.0
    assert silence.look({1: "a"}) == []
    clock.now_s += 3600.0
    assert silence.look({1: "a"}) == [1]  # two looks of at most five seconds each


def test_who_is_looked_at_no_more_is_not_told_of() -> None:
    clock = Clock()
    silence = Silence(1.0, clock.read_s)
    silence.look({1: "a", 2: "a"})
    clock.now_s += 2.0
    assert silence.look({2: "a"}) == [2]
