from cia_extract.cli import extract as extract
from cia_extract.common.version import __version__ as __version__
from cia_extract.features import open_features as open_features

__all__ = ["__version__", "extract", "open_features"]
