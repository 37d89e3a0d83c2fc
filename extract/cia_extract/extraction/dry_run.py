"""What an extraction would do, from the manifest and a short measurement: `cia-extract --dry-run`."""

import time
from collections import Counter
from typing import Any, Final

import numpy as np

from cia_extract import features, recipes
from cia_extract.clips import Pixels, PreparedClip, Windows, flow, prepare_clip
from cia_extract.common import switches
from cia_extract.common.console import Say
from cia_extract.common.outcomes import ClipError
from cia_extract.extraction.flow_batches import DeviceFlow
from cia_extract.extraction.pipeline import Extraction
from cia_extract.extraction.settings import Settings
from cia_extract.features import writer
from cia_extract.networks import GMACS, Engine, example, network_of

PROBED: Final = 3  # clips


def plan(settings: Settings, say: Say) -> dict[str, Any]:
    """Clips by split, bytes, free disk, arithmetic, and hours estimated from three clips spread over the manifest."""
    columns = settings.manifest.columns
    clips, modalities = len(settings.manifest), settings.modalities
    splits = Counter(zip(columns.get("domain", [settings.dataset] * clips), columns["split"], strict=True))
    frames = settings.recipe.sampling.frames
    probe = _Probe(settings, say)
    return {
        "dataset": settings.dataset,
        "out": str(settings.out),
        "recipe": settings.recipe.name,
        "clips": clips,
        "clips_by_domain_and_split": {f"{domain}/{split}": count for (domain, split), count in sorted(splits.items())},
        "clips_missing": sum(not settings.manifest.path(row, settings.root).exists() for row in range(clips)),
        "modalities": list(modalities),
        "gigabytes": round(clips * features.row_bytes(frames, modalities) / 1e9, 3),
        "gigabytes_free": round(writer.free_bytes(settings.out) / 1e9, 1),
        "windows_at_most": clips * frames * len(modalities),
        "peta_macs_at_most": round(clips * frames * sum(_gmacs(settings, m) for m in modalities) / 1e6, 4),
        "trunk_parameters": probe.parameters,
        "probed_clips": probe.clips,
        "hours_estimated": probe.hours(clips),
    }


def _gmacs(settings: Settings, modality: str) -> float:
    backbone = network_of(settings.recipe.backbone, modality)
    window = settings.recipe.rgb.window if modality == "rgb" else settings.recipe.flow.window
    return GMACS[backbone][modality] * (window / 16 if backbone == "i3d" else 1)


class _Probe:
    """Three clips through every stage, nothing written. Flow is timed on one pair a clip and counted up."""

    def __init__(self, settings: Settings, say: Say) -> None:
        self.seconds = {"decode": 0.0, "flow": 0.0, "network": 0.0}
        extraction = Extraction(settings, say)
        self.settings = extraction.settings
        self.parameters = {m: sum(p.numel() for p in _parameters(settings, m)) for m in settings.modalities}
        a_window = {m: _window_seconds(settings, m, engine) for m, engine in extraction.engines.items()}
        self.clips: list[str] = []
        unreadable = ""
        rows = len(settings.manifest)
        for row in dict.fromkeys(int(r) for r in np.linspace(0, rows - 1, min(rows, 10 * PROBED))):
            if len(self.clips) == PROBED:
                break
            try:
                clip = self._prepared(row)
            except ClipError as error:
                unreadable = unreadable or str(error)
                continue
            self.clips.append(settings.manifest.columns["clip"][row])
            for modality, windows in clip.windows.items():
                self.seconds["network"] += len(np.unique(windows.rows, axis=0)) * a_window[modality]
        if not self.clips and unreadable:
            say(f"note: no clip that was tried can be read, so hours are not estimated; the first: {unreadable}")

    def _prepared(self, row: int) -> PreparedClip:
        """A clip with flow computed for a few pairs only, and the seconds of all its pairs noted."""
        settings = self.settings
        job = settings.job(row, settings.modalities, flow_by="device")
        clip = prepare_clip(job)
        self.seconds["decode"] += clip.decode_s
        if clip.pairs is None:
            return clip
        pairs, flows = clip.pairs, len(clip.pairs.rows)
        began = time.perf_counter()
        if settings.flow_by == "device":
            on_device = DeviceFlow(settings.recipe, settings.device)
            if not self.clips:  # the first time it is compiled
                _ = [*on_device.add(row, pairs), *on_device.flush()]
                began = time.perf_counter()
            _, _, windows = next(iter([*on_device.add(row, pairs), *on_device.flush()]))
            clip.windows["flow"] = windows
            self.seconds["network"] += time.perf_counter() - began
        else:
            first, second = pairs.rows[flows // 2]
            rule = settings.recipe.flow
            grey = dict(zip(flow.frame_pair(0, rule), pairs.grey[[first, second]], strict=True))
            self.seconds["flow"] += _pair_seconds(grey, rule, settings.flow_by) * flows
            crop = settings.recipe.picture.crop
            clip.windows["flow"] = Windows(np.zeros((flows, crop, crop, 2), np.uint8), pairs.windows)
        return clip

    def hours(self, clips: int) -> dict[str, float]:
        """Hours by stage. Decoding and flow run in worker processes beside the network: the whole takes about the longer."""
        if not self.clips:
            return {}
        settings, scale = self.settings, clips / len(self.clips) / 3600
        hours = {
            "decode": self.seconds["decode"] * scale / settings.workers,
            "flow": self.seconds["flow"] * scale / settings.workers,
            "network": self.seconds["network"] * scale,
        }
        hours["all"] = max(hours["decode"] + hours["flow"], hours["network"])
        if settings.device.type == "cpu":  # they share the cores
            hours["all"] = hours["decode"] + hours["flow"] + hours["network"]
        return {stage: round(value, 3) for stage, value in hours.items()}


def _pair_seconds(grey: dict[int, Pixels], rule: recipes.Flow, by: str) -> float:
    """Of the flow from frame 0 on one core, as in a worker."""
    with switches.one_thread():
        began = time.perf_counter()
        flow.quantised_flows(grey, [0], rule, by=by)
        return time.perf_counter() - began


def _window_seconds(settings: Settings, modality: str, engine: Engine) -> float:
    """Of one window in a whole batch, the second time."""
    one = example(settings.recipe, modality).to(engine.device)
    batch = one.repeat(engine.batch, *[1] * (one.ndim - 1))
    engine.run(batch).cpu()
    began = time.perf_counter()
    engine.run(batch).cpu()
    return (time.perf_counter() - began) / engine.batch


def _parameters(settings: Settings, modality: str) -> Any:
    from cia_extract.networks.weights import fit

    return fit.create(network_of(settings.recipe.backbone, modality), modality).parameters()
