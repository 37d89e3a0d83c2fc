"""Losses besides the source's cross-entropy, one a file: `Options` and `build(sizes, options)`.

The module maps (`model.Output`, `step.Step`) to a `step.Term`. None is given a target label.
"""
