"""What methods are composed of, found by name: refinements, poolings, temporal parts, objectives."""

from cia_adapt.parts.registry import KINDS, find, names, needs_target, options

__all__ = ["KINDS", "find", "names", "needs_target", "options"]
