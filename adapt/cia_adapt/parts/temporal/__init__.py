"""Temporal parts: from the features of S frames to those of the clip, one a file.

A file has `Options` and `build(width, segments, options)`, `width` being D. The module that `build` gives takes frames [B, S, D]
and returns (clip [B, width], {level: domain logits [B, …, 2]}), its attribute `width` being the clip's.
"""
