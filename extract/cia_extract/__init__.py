"""Stage one of CIA: action clips in, one HDF5 file of RGB and flow features out.

Notation used throughout the package: N clips, T sampled frames a clip (25), C channels (1024), H×W map (7×7).
"""

__version__ = "0.1.0"
