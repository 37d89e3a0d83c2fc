"""Signals as interrupts, wherever they fall. How whole commands end is in tests/faults/test_interrupts.py."""

import atexit
import signal
import sys
import time
import weakref

import pytest
from cia_extract.common import processes

NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture(autouse=True)
def handlers_as_before():
    """None is ignored at the start, as under nohup."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in NUMBERS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    atexit.unregister(processes.ignore_signals)


class Held:
    pass


def in_a_destructor(number: int) -> None:
    class Ending:
        def __del__(self) -> None:
            signal.raise_signal(number)

    Ending()


def in_a_weak_reference(number: int) -> None:
    """As importlib's module locks have them."""
    held = Held()
    reference = weakref.ref(held, lambda _: signal.raise_signal(number))
    del held
    assert reference() is None


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("fall", [in_a_destructor, in_a_weak_reference])
def test_an_interrupt_that_falls_where_python_lets_nothing_out_comes_all_the_same(fall, number, capfd):
    hook = sys.unraisablehook
    with pytest.raises(KeyboardInterrupt), processes.interrupted_by_signals():
        fall(number)
        time.sleep(30)
    assert processes.received() and sys.unraisablehook is hook
    assert capfd.readouterr().err == ""


def test_it_comes_once_however_often_a_signal_comes_meanwhile():
    with processes.interrupted_by_signals():
        with pytest.raises(KeyboardInterrupt):
            in_a_destructor(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            time.sleep(30)
        time.sleep(10 * processes.AGAIN_S)


def test_one_that_is_lost_again_comes_in_the_end():
    with pytest.raises(KeyboardInterrupt), processes.interrupted_by_signals():
        for number in NUMBERS:
            in_a_destructor(number)
        time.sleep(30)


def test_one_that_is_lost_before_steps_that_must_all_happen_comes_once_and_after_them():
    done = []
    with processes.interrupted_by_signals():
        with pytest.raises(KeyboardInterrupt), processes.uninterrupted():
            processes._State.held -= 1  # it was raised just before
            in_a_destructor(signal.SIGINT)
            processes._State.held += 1
            time.sleep(5 * processes.AGAIN_S)
            done.append("all")
        time.sleep(5 * processes.AGAIN_S)
    assert done == ["all"]


def test_the_first_signal_is_named_also_where_it_was_lost():
    with pytest.raises(KeyboardInterrupt), processes.interrupted_by_signals():
        in_a_destructor(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
    assert processes.ending_word() == "terminated (SIGTERM)"


def test_one_that_is_lost_at_the_end_of_the_work_does_not_end_the_next():
    for _ in range(2):
        with processes.interrupted_by_signals():
            in_a_destructor(signal.SIGINT)
        with processes.interrupted_by_signals():
            time.sleep(3 * processes.AGAIN_S)


def test_other_errors_of_destructors_are_told_as_ever(monkeypatch):
    class Ending:
        def __del__(self) -> None:
            raise ValueError("told")

    told: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: told.append(str(unraisable.exc_value)))
    with processes.interrupted_by_signals():
        Ending()
    assert told == ["told"]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_worker_s_interrupt_is_not_lost_either(number):
    with pytest.raises(KeyboardInterrupt), processes.interruptible():
        in_a_destructor(number)
        time.sleep(30)
