"""Entropy of a softmax, in nats."""

from torch import Tensor


def entropy(logits: Tensor) -> Tensor:
    """Entropy H(softmax(logits)) in nats, 0 … ln K: logits […, K] → […].

    >>> import torch
    >>> entropy(torch.tensor([[2.0, 0, 0], [0, 0, 0]]))
    tensor([0.6656, 1.0986])
    """
    logs = logits.log_softmax(-1)
    return -(logs.exp() * logs).sum(-1)
