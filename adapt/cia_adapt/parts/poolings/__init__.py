"""Spatial pooling, one a file: `Options`, `build(sizes, options)`, and `NEEDS_MAPS` where vectors will not do.

The module maps {modality: Feature} to `layers.maps.Pooled`.
"""
