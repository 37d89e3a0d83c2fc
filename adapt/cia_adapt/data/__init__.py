"""From a feature file to batches: domains, labels, readers, clips without their labels."""

from cia_adapt.data import checking, importing, label_sets
from cia_adapt.data.clips import Clips, LabelledClips, SealedLabels, joined, subset, to_device
from cia_adapt.data.domains import Domain, as_one, called, digest, domains_of, find_domains, name_of, pairs
from cia_adapt.data.foreign import ForeignDataset
from cia_adapt.data.prefetch import announced, prefetched
from cia_adapt.data.readers import Positions, Stores, Tier, fits
from cia_adapt.data.relabel import relabelled
from cia_adapt.data.sampling import Draw, Endless, centre_frames, shifted_frames, source_order, test_frames
from cia_adapt.data.task import Rows, Task, arrays_to_read, make_task, quoted, rows_of, sizes_of, tested, training_classes

__all__ = [
    "Clips",
    "Domain",
    "Draw",
    "Endless",
    "ForeignDataset",
    "LabelledClips",
    "Positions",
    "Rows",
    "SealedLabels",
    "Stores",
    "Task",
    "Tier",
    "announced",
    "arrays_to_read",
    "as_one",
    "called",
    "centre_frames",
    "checking",
    "digest",
    "domains_of",
    "find_domains",
    "fits",
    "importing",
    "joined",
    "label_sets",
    "make_task",
    "name_of",
    "pairs",
    "prefetched",
    "quoted",
    "relabelled",
    "rows_of",
    "shifted_frames",
    "sizes_of",
    "source_order",
    "subset",
    "test_frames",
    "tested",
    "to_device",
    "training_classes",
]
