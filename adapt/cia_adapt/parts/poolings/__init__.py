"""Spatial poolings, one a file. A file has `Options`, `build(sizes, options)` and `NEEDS_MAPS`, whether it must have maps.

The module that `build` gives takes {modality: Feature} and returns a `layers.maps.Pooled`.
"""
