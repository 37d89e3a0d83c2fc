"""What a run read: the feature file, if it is still there and the same; or clips."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from cia_extract.common.console import Say
from cia_extract.common.errors import DataError
from cia_extract.features import DatasetFeatures

from cia_adapt import data, footage, runs
from cia_adapt.data import Domain, called, digest, find_domains
from cia_adapt.footage import Footage, Pictures


def domains_of(config: Mapping[str, Any], stamp: Mapping[str, Any]) -> tuple[Domain, Domain]:
    """(source, target) of a run. Raises DataError where the file is gone or has changed since."""
    if config["setup"].get("input") == "clips":
        raise DataError("the run was trained on clips; this is drawn of runs over features only")
    path = stamp["feature_file"]
    domains = find_domains(Path(path))
    source, target = (called(domains, config[role]) for role in ("source", "target"))
    if source is None or target is None:
        raise DataError(f"{path}: no longer holds {config['source']} and {config['target']}; put the file of this run back")
    if config["features"] != digest(source, target):
        raise DataError(f"{path}: its features are no longer those of this run, or the run used --manifest or --map")
    return source, target


def own_clips(stamp: Mapping[str, Any], frames: Literal["cached", "black"]) -> list[Footage]:
    """The clips of a run that trained its backbone; none where its stamp, of a version before, does not say.

    The run may be somebody else's, and its stamp name any place: so nothing is written there. `frames` is "black" where their
    columns are wanted alone.
    """
    return [replace(footage.from_origin(origin), frames=frames) for origin in stamp.get("clips", [])]


def filmed(folder: Path, clips: Sequence[Footage], say: Say) -> dict[str, Domain]:
    """The domains of these clips with the frames that the run in `folder` sees.

    Raises UsageError, DataError, MismatchError.
    """
    config = runs.files.read_config(folder)
    setup = runs.setup_of(config, folder)
    pictures = [Pictures.of_setup(setup, config["modalities"], one.flow) for one in clips]
    return data.domains_of([d for one, p in zip(clips, pictures, strict=True) for d in footage.opened(one, p, say)])


def with_frames(domain: Domain) -> DatasetFeatures:
    """The domain's dataset, whose clips can be read again. Raises DataError where the file does not say where they are."""
    dataset = domain.dataset
    if not isinstance(dataset, DatasetFeatures) or "clips/indices" not in dataset.regions:
        raise DataError(f"{dataset.path}: does not say where the clips and their frames are; a file written by cia-extract does")
    return dataset
