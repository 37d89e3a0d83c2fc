"""Signals as interrupts, wherever they fall. How whole commands end is in tests/faults/test_interrupts.py."""

import atexit
import signal
import sys
import time
import weakref
from contextlib import suppress

import pytest
from cia_extract.common import processes

NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture(autouse=True)
def handlers_as_before():
    before = {number: signal.getsignal(number) for number in NUMBERS}
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


def test_it_comes_once():
    with processes.interrupted_by_signals():
        with pytest.raises(KeyboardInterrupt):
            in_a_destructor(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)  # the next one is in the lost one's place
        time.sleep(10 * processes.AGAIN_S)


def test_other_errors_of_destructors_are_told_as_ever(monkeypatch):
    class Ending:
        def __del__(self) -> None:
            raise ValueError("told")

    told: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: told.append(str(unraisable.exc_value)))
    with suppress(KeyboardInterrupt), processes.interrupted_by_signals():
        Ending()
    assert told == ["told"]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_worker_s_interrupt_is_not_lost_either(number):
    with pytest.raises(KeyboardInterrupt), processes.interruptible():
        in_a_destructor(number)
        time.sleep(30)
