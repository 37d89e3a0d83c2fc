"""A small feature file with the columns of EPIC-KITCHENS-100: verbs and nouns; train, val, test; two domains; vectors."""

import json
from pathlib import Path

import h5py
import numpy as np
from cia_extract import features

VERBS, NOUNS = ("take", "put", "bend"), ("tap", "spoon", "plate", "extract:vanilla")  # bend and extract:vanilla are tail classes
FRAMES, CHANNELS = 5, 16
LABELLED = {"source": ("train", "val"), "target": ("val",)}
MANY = {"train": 24, "val": 12, "test": 7}


def make_e100(path: Path, dataset: str = "e100", unfinished: int = 0) -> Path:
    """`unfinished`: clips of the target's test split without features. Participant P30 has no clip in a train split."""
    columns: dict[str, list[str]] = {key: [] for key in ("clip", "path", "label", "noun", "split", "domain", "group")}
    truth = []
    for domain in ("source", "target"):
        for split, count in MANY.items():
            for i in range(count):
                verb, noun = VERBS[i % 3], NOUNS[i % 4]
                participant = "P30" if split == "val" and i % 2 else "P01"
                video = f"{participant}_{'1' if domain == 'target' else ''}{list(MANY).index(split):02d}"
                known = split in LABELLED[domain]
                values = [f"{video}_{i}", f"{video}.MP4", verb * known, noun * known, split, domain, video]
                for key, value in zip(columns, values, strict=True):
                    columns[key].append(value)
                truth.append((i % 3, i % 4))
    random, count = np.random.default_rng(0), len(truth)
    done = np.full((count, 1), features.DONE, np.uint8)
    if unfinished:
        done[-unfinished:] = features.TO_DO
    x = random.uniform(0, 0.5, (count, FRAMES, CHANNELS)).astype(np.float32)
    for row, (verb, noun) in enumerate(truth):
        x[row, :, verb] += 2
        x[row, :, 3 + noun] += 2
    recipe = {"dataset": dataset, "backbone": "tbn", "modalities": ["rgb"], "frames": FRAMES}
    with h5py.File(path, "a") as file:
        file.attrs["schema"] = features.SCHEMA
        group = file.create_group(dataset)
        group.attrs["recipe"], group.attrs["recipe_sha256"] = json.dumps(recipe), features.provenance_sha256(recipe)
        listed = features.write_columns(group, columns)
        listed["indices"] = np.tile(np.arange(FRAMES, dtype=np.int32), (count, 1))
        group["rgb/pooled"] = x
        group["crc32c"] = np.array([[features.row_crc32c(row)] for row in x], np.uint32)
        group["status"] = done
    return path
