"""Refinements of all modalities' features before spatial pooling, one a file. A file has `Options` and `build(sizes, options)`.

The module that `build` gives takes {modality: Feature} and returns the same; gains and shifts are kept beside the maps
(`layers.maps.Feature`).
"""
