"""Is adversarial training well? One plain sentence when it is not, and what to try."""

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

WINS: Final = 97.0  # % of clips whose domain is told, mean of both domains
RUNS_AWAY: Final = 3.0  # cross-entropy of a discriminator, nats; ln 2 = 0.69 is chance
COLLAPSE: Final = 0.8  # of the target in one class
EARLY: Final = 0.2  # of the epochs: the first ones are no evidence
OUTWEIGHS: Final = 20.0  # ratio of gradient norms at the features


def advice(metrics: Mapping[str, Any], classes: int, progress: float, reversal: float = 1.0) -> str:
    """ "KIND: sentence" about one epoch's metrics, empty when nothing is wrong or it is too early to say.

    `classes` are those of the first label; `progress` the share of epochs done; `reversal` the set-up's, which the sentence's
    advice starts from.
    """
    if progress < EARLY:
        return ""
    aligned = any(name.endswith("_reversal") for name in metrics)
    lower, higher = f"lower λ (--reversal {0.3 * reversal:.2g})", f"raise λ (--reversal {3 * reversal:.2g})"
    share = metrics.get("target_top_class_share", 0.0)
    if classes > 2 and share > max(COLLAPSE, 2 / classes):
        return (
            f"collapse: {100 * share:.0f} % of the target are given one class; {lower + ' or' if aligned else 'try a lower'} --lr"
        )
    for level in ("video", "frame", "relation", "region"):
        loss, accuracy = metrics.get(f"{level}_domain_loss"), metrics.get(f"{level}_domain_accuracy")
        if loss is None or accuracy is None:
            continue
        if loss > RUNS_AWAY:
            return (
                f"running away: the features run away from the {level} discriminator (its loss is {loss:.1f}, chance is 0.7); "
                f"{lower} or --lr, or let λ grow with --set adversarial.ramp=10"
            )
        if accuracy > WINS and level in ("video", "frame"):
            return f"not aligned: the {level} discriminator wins ({accuracy:.0f} % told apart); {higher} or train longer"
    ratio = metrics.get("domain_to_task_gradient")
    if ratio is not None and ratio > OUTWEIGHS:
        weaker = f"{lower} or raise" if aligned else "raise"
        where = "in the gradient at the features"
        return f"outweighed: the other losses outweigh the task {ratio:.0f} : 1 {where}; {weaker} --lambda-class"
    return ""


def predictions(probabilities: Tensor) -> dict[str, float]:
    """Of the target's softmaxes [N, K]: mean entropy in nats, share of the most frequent class, and how many classes occur."""
    counts = torch.bincount(probabilities.argmax(1), minlength=probabilities.shape[1])
    return {
        "target_entropy": float(torch.special.entr(probabilities).sum(1).mean()),
        "target_top_class_share": float(counts.max() / counts.sum()),
        "target_classes_predicted": float((counts > 0).sum()),
    }


def gradient_ratio(task: Tensor, domain: Tensor | None, features: Mapping[str, Tensor]) -> dict[str, float]:
    """Norms of both losses' gradients at the frame features, and domain : task, "domain" being all other losses' sum.

    The training loop asks for them at the first step of each epoch. Empty without a domain loss, or over frozen features.
    """
    trained = [x for x in features.values() if x.requires_grad]
    if domain is None or not domain.requires_grad or not trained:
        return {}
    norms = []
    for loss in (task, domain):
        gradients = torch.autograd.grad(loss, trained, retain_graph=True, allow_unused=True)
        norms.append(sum(float(g.float().square().sum()) for g in gradients if g is not None) ** 0.5)
    return {"task_gradient": norms[0], "domain_gradient": norms[1], "domain_to_task_gradient": norms[1] / max(norms[0], 1e-12)}
