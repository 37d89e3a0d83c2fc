"""Ranges that the numbers among a part's settings may lie in; a field without one may be 0 or more (`registry.options`)."""

from typing import Annotated

from msgspec import Meta

Share = Annotated[float, Meta(ge=0, le=1)]
"""A part of a whole, a probability, or a weight between two things: 0 … 1."""
SomeShare = Annotated[float, Meta(gt=0, le=1)]
"""A share that must not be nothing."""
BelowOne = Annotated[float, Meta(ge=0, lt=1)]
"""A decay or a smoothing, which would leave nothing at 1."""
Positive = Annotated[float, Meta(gt=0, lt=10**9)]
"""What something is divided by, such as a temperature."""
Count = Annotated[int, Meta(ge=1, lt=10**9)]
"""A number of things, of which there must be one: features of a layer, kernels, epochs."""
