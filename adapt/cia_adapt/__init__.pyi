from cia_extract import __version__ as __version__

from cia_adapt.cli import predict_clips as predict
from cia_adapt.cli import train_method as train
from cia_adapt.runs import load_run as load_run

__all__ = ["__version__", "load_run", "predict", "train"]
