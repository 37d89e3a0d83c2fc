"""Refinements of all modalities' features before spatial pooling, one a file: `Options` and `build(sizes, options)`.

The module maps {modality: Feature} to the same; gains and shifts stay apart from the maps (`layers.maps.Feature`).
"""
