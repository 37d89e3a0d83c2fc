"""Many runs: pairs of domains × seeds × methods, what they would cost, how fast they are; a search over settings."""

from cia_adapt.experiments import bench, clips, dry_run, findings, runner, search, sweep
from cia_adapt.experiments.request import Request

__all__ = ["Request", "bench", "clips", "dry_run", "findings", "runner", "search", "sweep"]
