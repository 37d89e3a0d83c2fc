"""Losses besides the source's cross-entropy, one a file: `Options` and `build(sizes, options)`.

The module maps (`interface.Output`, `interface.Step`) to an `interface.Term`. None is given a target label.
"""

from cia_adapt.parts.objectives import gradient_blend

__all__ = ["gradient_blend"]
