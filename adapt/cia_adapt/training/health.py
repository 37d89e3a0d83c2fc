"""Is adversarial training well? One plain sentence when it is not, and what to try."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from cia_adapt.parts.interface import Output

WINS: Final = 97.0  # % of clips whose domain is told, mean of both domains
RUNS_AWAY: Final = 3.0  # cross-entropy of a discriminator, nats; ln 2 = 0.69 is chance
COLLAPSE: Final = 0.8  # of the target in one class
EARLY: Final = 0.2  # of the epochs: the first ones are no evidence
OUTWEIGHS: Final = 20.0  # ratio of gradient norms at the features
# Effective cells of a consensus map, which has 49. In benchmarks/STUDY.md ("All frames") the one run that collapsed had 2.8 after
# its second epoch, the four other seeds of that method and direction 4.2 to 5.7.
NARROW: Final = 3.0
SWING: Final = 70.0  # points between the best and the worst epoch of a discriminator, of the last `RECENT`; good runs reach 60
RECENT: Final = 5  # epochs
ALIGNING: Final = ("adversarial", "conditional_adversarial")  # the objectives that train discriminators
CURES: Final = {  # {setting: (its value where it does nothing, the value to try)}
    "ramp": (0, 10),
    "reaches": ("everything", "shared"),
    "lr": (1, 0.3),
    "penalty": (0, 1),
    "centre": (False, True),
    "standardise": (0, 1),
}


@dataclass(frozen=True)
class Advice:
    """What goes wrong, and what to try. Metrics and results keep it as the text "KIND: SENTENCE"."""

    kind: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.sentence}"

    @classmethod
    def read(cls, text: str) -> "Advice":
        """From the text that metrics and results keep."""
        kind, _, sentence = text.partition(": ")
        return cls(kind, sentence)


def advice(
    history: Sequence[Mapping[str, Any]], classes: int, progress: float, reversal: float = 1.0, options: Mapping[str, Any] = {}
) -> Advice | None:
    """What to say of the last epoch; None when nothing is wrong or it is too early to say.

    `history` has the metrics of all epochs so far; `classes` are those of the first label; `progress` is the share of epochs
    done; `reversal` the set-up's, which the sentence's advice starts from; `options` the method's settings, all
    written out, {part: {setting: value}}: what it lacks or has already is not proposed.
    """
    metrics = history[-1]
    if progress < EARLY:
        return None
    aligned = any(name.endswith("_reversal") for name in metrics)
    lower, higher = f"lower λ (--reversal {0.3 * reversal:.2g})", f"raise λ (--reversal {3 * reversal:.2g})"
    share = metrics.get("target_top_class_share", 0.0)
    if classes > 2 and share > max(COLLAPSE, 2 / classes):
        cure = f"{lower} or --lr" if aligned else "try a lower --lr"
        return Advice("collapse", f"the model gives {100 * share:.0f} % of the target's clips one class; {cure}")
    for level in ("video", "frame", "relation", "region", "conditional"):
        loss, accuracy = metrics.get(f"{level}_domain_loss"), metrics.get(f"{level}_domain_accuracy")
        if loss is None or accuracy is None:
            continue
        if loss > RUNS_AWAY:
            away = f"the features run away from the {level} discriminator: its loss is {loss:.1f}, and chance is 0.7"
            ramp = "".join(f", or let λ grow with {cure}" for cure in _cures(options, ALIGNING, "ramp"))
            return Advice("running away", f"{away}; {lower} or --lr{ramp}")
        if accuracy > WINS and level in ("video", "frame", "conditional"):
            told = f"the {level} discriminator wins: it tells the domain of {accuracy:.0f} % of the clips"
            return Advice("not aligned", f"{told}; {higher} or train longer")
    ratio = metrics.get("domain_to_task_gradient")
    if ratio is not None and ratio > OUTWEIGHS:
        cure = f"{lower} or raise --lambda-class" if aligned else "raise --lambda-class"
        return Advice("outweighed", f"the other losses outweigh the task {ratio:.0f} : 1 in the gradient at the features; {cure}")
    return _of_the_map(metrics, options) or _of_the_game(history, options, lower)


def _of_the_map(metrics: Mapping[str, Any], options: Mapping[str, Any]) -> Advice | None:
    """Does SC's consensus sit on a few cells?"""
    for domain in ("source", "target"):
        cells = metrics.get(f"{domain}_effective_cells")
        if cells is not None and cells < NARROW:
            cures = [
                *_cures(options, ["sc"], "centre"),
                *_cures(options, ALIGNING, "reaches"),
                *_cures(options, ["sc"], "standardise"),
            ]
            standardised = options.get("sc", {}).get("standardise")  # in place of τ
            cures.append("a lower --set sc.standardise" if standardised else "a higher --set sc.temperature")
            told = f"SC's map sits on {cells:.1f} cells of the {domain}'s frames"
            return Advice("narrow map", f"{told}; try {_either(cures)}")
    return None


def _of_the_game(history: Sequence[Mapping[str, Any]], options: Mapping[str, Any], lower: str) -> Advice | None:
    """Does a discriminator swing between winning and losing instead of settling?"""
    recent = history[-RECENT:]
    for level in ("video", "frame", "conditional"):
        accuracies = [metrics[f"{level}_domain_accuracy"] for metrics in recent if f"{level}_domain_accuracy" in metrics]
        if len(accuracies) == RECENT and max(accuracies) - min(accuracies) > SWING:
            swung = (
                f"the {level} discriminator swung between {min(accuracies):.0f} and {max(accuracies):.0f} % in {RECENT} epochs"
            )
            cures = _cures(options, ALIGNING, "lr", "penalty", "reaches")
            return Advice("swinging", f"{swung}; " + (f"try {_either(cures)}" if cures else lower))
    return None


def _cures(options: Mapping[str, Any], parts: Sequence[str], *settings: str) -> list[str]:
    """Of `CURES` what those of these parts that the method has can be set to, and are not yet: flags."""
    return [
        f"--set {part}.{setting}={str(CURES[setting][1]).lower()}"
        for part in parts
        for setting in settings
        if options.get(part, {}).get(setting) == CURES[setting][0]
    ]


def _either(cures: Sequence[str]) -> str:
    """One or several with commas and an "or" between."""
    return " or ".join(filter(None, (", ".join(cures[:-1]), cures[-1])))


def predictions(probabilities: Tensor) -> dict[str, float]:
    """Of the target's softmaxes [N, K]: mean entropy in nats, share of the most frequent class, and how many classes occur."""
    counts = torch.bincount(probabilities.argmax(1), minlength=probabilities.shape[1])
    return {
        "target_entropy": float(torch.special.entr(probabilities).sum(1).mean()),
        "target_top_class_share": float(counts.max() / counts.sum()),
        "target_classes_predicted": float((counts > 0).sum()),
    }


def consensus_metrics(maps: Tensor | None, source_clips: int) -> dict[str, Tensor]:
    """How sharp SC's maps [B, S, H, W] are, by domain: effective cells 1/ΣS² and the largest weight, means over frames.

    The first clips are the source's. 49 effective cells of 7 × 7 are average pooling. Empty without maps.
    """
    if maps is None:
        return {}
    metrics = {}
    for domain, part in (("source", maps[:source_clips]), ("target", maps[source_clips:])):
        if len(part):
            cells = part.detach().float().flatten(2)  # [B, S, HW]
            metrics[f"{domain}_effective_cells"] = (1 / cells.square().sum(2)).mean()
            metrics[f"{domain}_largest_weight"] = cells.amax(2).mean()
    return metrics


def gradient_ratio(task: Tensor, others: Sequence[Tensor], *places: Mapping[str, Tensor]) -> dict[str, float]:
    """Norms of both losses' gradients at the frame features, and domain : task, "domain" being all other losses' sum.

    The training loop asks for them at the first step of each epoch. `places` are {name: features} to look at (`features_of`); the
    first of them counts where the other losses have a gradient. Empty without such a loss, or over frozen features.
    """
    others = [loss for loss in others if loss.requires_grad]
    norms: list[float] = []
    for place in places:
        trained = [x for x in place.values() if x.requires_grad]
        if not others or not trained:
            return {}
        norms = [_gradient_norm(loss, trained) for loss in (task, torch.stack(others).sum())]
        if norms[1]:
            break
    return {"task_gradient": norms[0], "domain_gradient": norms[1], "domain_to_task_gradient": norms[1] / max(norms[0], 1e-12)}


def features_of(views: Sequence[Output]) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    """The frames' features of all views: as the shared layer gives them, and as it computes them before normalisation and ReLU,
    which is all that a loss on norms sees (`rna`).
    """
    frames = {f"{stream}_{i}": x for i, view in enumerate(views) for stream, x in view.frames.items()}
    return frames, {f"{stream}_{i}": x for i, view in enumerate(views) for stream, x in view.raw.items()}


def _gradient_norm(loss: Tensor, at: Sequence[Tensor]) -> float:
    gradients = torch.autograd.grad(loss, at, retain_graph=True, allow_unused=True)
    return sum(float(g.float().square().sum()) for g in gradients if g is not None) ** 0.5
