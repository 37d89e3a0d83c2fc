"""Losses besides the source's cross-entropy, one a file. A file has `Options` and `build(sizes, options)`.

The module that `build` gives takes (`interface.Output`, `interface.Step`) and returns an `interface.Term`. No objective is given
a target label.
"""

from cia_adapt.parts.objectives import gradient_blend

__all__ = ["gradient_blend"]
