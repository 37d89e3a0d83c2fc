"""Stage two of CIA: light heads trained over cached features, with honest evaluation.

Notation used throughout the package: B clips in a batch, S segments (frames used of a clip, 5), T frames stored of a clip (25),
C channels (1024), H×W map (7×7), M modalities, D features of a stream, K classes.
"""

from cia_extract import __version__ as __version__
