"""How many of torch's threads train a direction on a CPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from cia_extract.common import switches

from cia_adapt.experiments.request import Direction, Request


@contextmanager
def threads_of_a_step(request: Request, direction: Direction) -> Iterator[None]:
    """While this direction trains: one thread for vectors, all that the process has for maps.

    A step over vectors is many products of some milliseconds. On an idle machine a second thread makes it 1.5 times as fast for
    1.2 times the CPU time; where others compute too, each of the two waits for the other, and both are slower than one
    (benchmarks/RESULTS.md). One thread is taken for the numbers' sake: the number of threads may move the last bits of a sum, so
    that it must not depend on the machine, and a run that goes on must go on as it began.
    """
    vectors = request.device.type == "cpu" and not direction.method.needs_maps
    with switches.threads(1 if vectors else torch.get_num_threads()):
        yield
