"""From the features of S frames to one of the clip, one a file: `Options` and `build(width, segments, options)`.

The module has `width`, that of its result, and maps frames [B, S, D] to (clip [B, width], {level: domain logits [B, …, 2]}).
"""
