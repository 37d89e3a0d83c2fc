"""One clip, from its file to what the networks see: frames, windows, pictures, sound. Runs in worker processes, without torch."""

from cia_extract.clips import audio, preparation, sampling
from cia_extract.clips.job import ClipJob, FramePairs, PreparedClip, Windows
from cia_extract.clips.picture import Pixels
from cia_extract.clips.preparation import job_of, prepare_clip
from cia_extract.clips.video import decode, frame_rate
from cia_extract.clips.workers import prepared_clips

__all__ = [
    "ClipJob",
    "FramePairs",
    "Pixels",
    "PreparedClip",
    "Windows",
    "audio",
    "decode",
    "frame_rate",
    "job_of",
    "preparation",
    "prepare_clip",
    "prepared_clips",
    "sampling",
]
