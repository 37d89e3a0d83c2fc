"""Signals that end a process, and worker processes that do not outlive who started them.

SIGTERM (schedulers) and SIGHUP (a closed terminal) are treated as Ctrl-C: KeyboardInterrupt in the main thread, so that every
clean-up runs. A signal that was ignored when the process started (nohup) stays ignored.
"""

import atexit
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Final

ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
AGAIN_S: Final = 0.02  # between two attempts to raise a lost interrupt
WORDS: Final = {signal.SIGTERM: "terminated (SIGTERM)", signal.SIGHUP: "terminated (SIGHUP)"}


class _State:
    """The signals that this process received, and whether one of them waits."""

    received: signal.Signals | None = None  # the first one
    held = 0  # depth of `uninterrupted`
    waiting = False  # a signal came during `uninterrupted`
    lost = False  # the interrupt was raised where Python lets nothing out, and will be raised again
    nothing_gets_out: CodeType | None = None  # that of the hook to which Python tells lost exceptions


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """While a command runs, SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt. Call it in the main thread.

    Only the first SIGTERM or SIGHUP counts: a second one must not end the clean-up after the first. Another Ctrl-C does end it,
    except in worker processes, which get the terminal's signal and their parent's.
    """
    _State.received = None
    before = {number: signal.getsignal(number) for number in ENDING}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, _received)
    try:
        with _none_lost():
            yield
    finally:
        ended = _State.received is not None
        for number, handler in before.items():
            signal.signal(number, _too_late if ended and handler != signal.SIG_IGN else handler)
        if ended:
            atexit.register(ignore_signals)  # the interpreter's last steps would put the system's own handlers back


def _too_late(number: int, frame: FrameType | None) -> None:
    """A signal to a process that is ending already: it keeps its exit code."""


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Let a library start that takes SIGTERM for itself (Ray): afterwards ours hold again; its exit meanwhile is an interrupt."""
    before = {number: signal.getsignal(number) for number in ENDING}
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_signals() -> None:
    """From now on this worker process ignores signals: its parent decides when it ends."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def interruptible() -> Iterator[None]:
    """While a worker process that otherwise ignores signals does this work, the first signal raises KeyboardInterrupt, once.

    Ask at the beginning of the work whether the parent wants any more: a signal that came just before was ignored.
    """
    _State.received = None
    for number in ENDING:
        signal.signal(number, _received)
    try:
        with _none_lost():
            yield
    finally:
        ignore_signals()


@contextmanager
def _none_lost() -> Iterator[None]:
    """Raise an interrupt again that fell into a destructor or a weak reference's callback: Python prints it there and goes on."""
    before = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt) and _State.received is not None:
            _repeat(_State.received)
        else:
            before(unraisable)

    sys.unraisablehook, _State.nothing_gets_out = hook, hook.__code__
    try:
        yield
    finally:
        sys.unraisablehook, _State.lost = before, False


def _repeat(number: signal.Signals) -> None:
    """Send a signal to the main thread, again and again, until its interrupt gets out."""

    def send() -> None:
        while _State.lost:
            signal.pthread_kill(threading.main_thread().ident or 0, number)
            time.sleep(AGAIN_S)

    _State.lost = True
    threading.Thread(target=send, daemon=True).start()


def received() -> bool:
    """Whether a signal has told this process to end."""
    return _State.received is not None


def ending_word() -> str:
    """What ended this process, for its last line: "interrupted", or "terminated (SIGTERM)" or "(SIGHUP)"."""
    return WORDS.get(_State.received, "interrupted") if _State.received else "interrupted"


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Guard a few short steps that must all happen: a signal waits until they are done."""
    _State.held += 1
    try:
        yield
    finally:
        _State.held -= 1
        if not _State.held and _State.waiting:
            _State.waiting = _State.lost = False
            raise KeyboardInterrupt


def _received(number: int, frame: FrameType | None) -> None:
    again = _State.received is not None and not _State.lost
    _State.received = _State.received or signal.Signals(number)
    if again and (number != signal.SIGINT or multiprocessing.parent_process() is not None):
        return
    if _State.held:
        _State.waiting = True
        return
    if _inside(_State.nothing_gets_out, frame):
        if not _State.lost:
            _repeat(_State.received)
        return
    _State.lost = False
    raise KeyboardInterrupt


def _inside(code: CodeType | None, frame: FrameType | None) -> bool:
    """Whether a function is being run."""
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    return frame is not None


def end_with_parent() -> None:
    """From now on this worker process ends when its parent does.

    A killed parent cannot stop its workers, which would compute on for hours.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_watch, args=(parent.sentinel,), daemon=True).start()


def _watch(sentinel: int) -> None:
    from multiprocessing.connection import wait  # not needed to catch signals

    wait([sentinel])
    os._exit(1)
