"""Entropy of a softmax in nats, and the weights that two methods make of it."""

from torch import Tensor


def entropy(logits: Tensor) -> Tensor:
    """Entropy H(softmax(logits)) in nats, 0 … ln K: logits […, K] → […].

    >>> import torch
    >>> entropy(torch.tensor([[2.0, 0, 0], [0, 0, 0]]))
    tensor([0.6656, 1.0986])
    """
    logs = logits.log_softmax(-1)
    return -(logs.exp() * logs).sum(-1)


def certainty_weights(logits: Tensor) -> Tensor:
    """Weights of clips, B(1 + e^−H) / Σ(1 + e^−H), without gradient: logits [B, K] → [B], whose mean is 1.

    Long et al., "Conditional Adversarial Domain Adaptation", NeurIPS 2018, https://arxiv.org/abs/1705.10667 (§3.3).

    >>> import torch
    >>> certainty_weights(torch.tensor([[2.0, 0, 0], [0, 1, -1], [0.5, 0.5, 0]]))
    tensor([1.0586, 1.0034, 0.9380])
    """
    weights = 1 + (-entropy(logits.detach())).exp()
    return len(weights) * weights / weights.sum()
