"""Many runs: pairs of domains × seeds × methods, what they would cost, and how fast they are."""

from cia_adapt.experiments import bench, dry_run, runner, sweep
from cia_adapt.experiments.request import Request

__all__ = ["Request", "bench", "dry_run", "runner", "sweep"]
