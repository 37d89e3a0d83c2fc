"""Proxy A-distance of the domains' features, before the model and after it.

Ben-David et al., "A theory of learning from different domains", Machine Learning 79, 2010: 2(1 − 2ε), for the error ε of a linear
classifier that tells the domains apart. 0: as by chance, 2: entirely. ε is that on a held-out half of the clips, the mean of both
domains' errors.
"""

from collections.abc import Sequence
from typing import Any, Final

import altair as alt
import numpy as np
import numpy.typing as npt
import pandas as pd
from cia_extract.common.errors import CiaError, DataError
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GroupShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import cia_adapt.results.report.charts as charts
from cia_adapt.data import Domain, Positions, rows_of
from cia_adapt.results.feature_file import domains_of
from cia_adapt.results.report.section import Figure, Section, Table
from cia_adapt.results.report.study import LeaveOut, Pair, Run, Study, direction
from cia_adapt.runs import files, setup_of

Floats = npt.NDArray[np.float64]
MOST: Final = 60  # distances after training; of more runs, the best methods' first seeds
BEFORE: Final = "features as extracted"


def proxy_a_distance(source: Floats, target: Floats, groups: tuple[Sequence[str], Sequence[str]], seed: int) -> float:
    """2(1 − 2ε) of features [N_s, D] and [N_t, D], clipped to 0 … 2.

    `groups` names each clip's video: clips of one video are all learnt from or all held out. `seed` draws the halves. Raises
    ValueError where a domain is of one video.
    """
    halves: list[list[npt.NDArray[np.int64]]] = [[], []]
    for names in groups:
        splitter = GroupShuffleSplit(n_splits=1, test_size=0.5, random_state=seed)
        for half, rows in zip(halves, next(splitter.split(names, groups=names)), strict=True):
            half.append(rows)
    (learnt, held_out) = (np.concatenate([source[rows[0]], target[rows[1]]]) for rows in halves)
    (domain, truth) = (np.repeat([0, 1], [len(rows[0]), len(rows[1])]) for rows in halves)
    with threadpool_limits(1):
        classifier = make_pipeline(StandardScaler(), RidgeClassifier(class_weight="balanced")).fit(learnt, domain)
        wrong = classifier.predict(held_out) != truth
    error = float(np.mean([wrong[truth == side].mean() for side in (0, 1)]))
    return min(max(2 * (1 - 2 * error), 0.0), 2.0)


def section(study: Study, leave_out: LeaveOut) -> Section | None:
    """Distances of each direction's features as extracted, and of the methods' selected epochs."""
    rows: list[dict[str, Any]] = []
    for pair in study.pairs:
        rows += _of_pair(study, pair, leave_out)
    if not rows:
        return None
    numbers = pd.DataFrame(rows)
    directions = list(dict.fromkeys(numbers["direction"]))
    choices = [("direction", directions[0])]
    order = [BEFORE, *study.methods]
    y = alt.Y("features:N", sort=order, title=None, axis=alt.Axis(labelLimit=150))
    tooltip = charts.tooltip("features", "seed", distance=".2f")
    x = alt.X("distance:Q", scale=alt.Scale(domain=[0, 2]), title="proxy A-distance")
    points = (
        charts.numbers(choices)
        .mark_point(filled=True, size=70, opacity=0.8, color=charts.ACCENT)
        .encode(x=x, y=y, tooltip=tooltip)
    )
    means = numbers[numbers["direction"] == directions[0]].groupby("features")["distance"].mean().round(2)
    figure = Figure(
        "distance",
        "Distance of the domains",
        f"A dot for each run. {directions[0]}: " + ", ".join(f"{name} {value:.2f}" for name, value in means.items()) + ".",
        charts.specification(points, choices, alt.Step(charts.STEP)),
        numbers=numbers,
        choices={"direction": directions},
        note="0: the domains look alike, 2: they are told apart entirely. "
        "Of both validation sets, by a linear classifier that tells the domains apart; error on a held-out half, split "
        "by video where the feature file names the videos. After training: the selected epoch's features.",
    )
    table = numbers.groupby(["direction", "features"], sort=False)["distance"].agg(["mean", "min", "max", "size"]).reset_index()
    return Section("Domain distance", figures=[figure], tables=[Table("distances", "Proxy A-distance", table, folded=True)])


def _of_pair(study: Study, pair: Pair, leave_out: LeaveOut) -> list[dict[str, Any]]:
    """Rows of the chart for one direction."""
    groups = [study.groups[method, pair] for method in study.methods if (method, pair) in study.groups]
    seeds = max(1, MOST // len(study.groups))
    runs = [run for group in groups[: max(1, MOST // len(study.pairs))] for run in study.members(group)[:seeds]]
    rows: list[dict[str, Any]] = []
    names: tuple[Sequence[str], Sequence[str]] | None = None
    try:
        features, names = _extracted(runs[0])
        rows.append(_row(pair, BEFORE, None, proxy_a_distance(*features, names, study.wanted.seed)))
    except (CiaError, ValueError) as error:
        leave_out(f"the domain distance before training, {direction(pair)}: {error}")
    for run in runs:
        try:
            scores = files.load_scores(run.folder)
            after = [scores[f"selected/{side}_features"].double().numpy() for side in ("source", "target")]
            clips = names or (list(map(str, range(len(after[0])))), list(map(str, range(len(after[1])))))
            if [len(part) for part in clips] != [len(part) for part in after]:
                raise DataError(f"{run.folder}: its scores are of other clips than the feature file's; {files.AGAIN}")
            distance = proxy_a_distance(after[0], after[1], clips, study.wanted.seed)
        except (CiaError, ValueError) as error:
            leave_out(f"the domain distance of {run.folder}: {error}")
        else:
            rows.append(_row(pair, str(run.result["method"]), run.result["seed"], distance))
    return rows


def _row(pair: Pair, features: str, seed: int | None, distance: float) -> dict[str, Any]:
    return {"direction": direction(pair), "features": features, "seed": seed, "distance": distance}


def _extracted(run: Run) -> tuple[tuple[Floats, Floats], tuple[Sequence[str], Sequence[str]]]:
    """(features of both validation sets, all modalities side by side; the video of each clip) of the run's feature file."""
    domains = domains_of(run.config, run.stamp)
    rows = rows_of(*domains, setup_of(run.config, run.folder))
    both = [
        _vectors(domain, part, run.config["modalities"])
        for domain, part in zip(domains, (rows.source_val, rows.target_val), strict=True)
    ]
    return (both[0][0], both[1][0]), (both[0][1], both[1][1])


def _vectors(domain: Domain, rows: Positions, modalities: Sequence[str]) -> tuple[Floats, list[str]]:
    """(mean of the frames' vectors [N, D], each clip's video, or the clip where the file names no videos)."""
    dataset = domain.dataset
    arrays = [f"{modality}/pooled" for modality in modalities]
    if not set(arrays) <= set(dataset.regions):
        raise DataError(f"{dataset.path}: '{domain.name}' has no vectors of {', '.join(modalities)}")
    features = [np.stack([dataset.array(name)[int(row)].mean(0, dtype=np.float64) for row in rows]) for name in arrays]
    clips = [str(name) for name in dataset.columns["clip"][rows]]
    videos = dataset.columns.get("group")
    named = clips if videos is None else [str(video) or clip for video, clip in zip(videos[rows], clips, strict=True)]
    return np.concatenate(features, axis=1), named
