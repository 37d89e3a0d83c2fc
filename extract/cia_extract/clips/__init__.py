"""One clip from its file to the networks' input: frames, windows, pictures, sound. Runs in worker processes."""

from cia_extract.clips import preparation
from cia_extract.clips.job import ClipJob, Pairs, PreparedClip, Windows
from cia_extract.clips.picture import Pixels
from cia_extract.clips.preparation import job_of, prepare
from cia_extract.clips.video import decode, frame_rate

__all__ = ["ClipJob", "Pairs", "Pixels", "PreparedClip", "Windows", "decode", "frame_rate", "job_of", "preparation", "prepare"]
