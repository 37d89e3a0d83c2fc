"""What methods are composed of: refinements, poolings, temporal parts and objectives, each known by the name of its file.

Notation of shapes, here and in the whole package: B clips, S frames of each (segments), N = B·S frames, C channels, H × W cells
of a map, HW = H·W, D features, M modalities, K classes, L labels a clip (verb and noun: 2). B_s and B_t are the source's and the
target's clips in a batch, source first.
"""

from cia_adapt.parts.registry import KINDS, find, names, needs_target, options

__all__ = ["KINDS", "find", "names", "needs_target", "options"]
