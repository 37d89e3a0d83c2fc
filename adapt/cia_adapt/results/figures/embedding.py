"""t-SNE of the clips' features of both domains, by scikit-learn.

van der Maaten and Hinton, "Visualizing Data using t-SNE", JMLR 2008, https://www.jmlr.org/papers/v9/vandermaaten08a.html.
"""

import numpy as np
import numpy.typing as npt
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

Floats = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]


def drawn_clips(sources: int, targets: int, seed: int) -> tuple[Positions, Positions]:
    """Equal numbers of both domains: the positions, in order, of n = min(N_s, N_t) clips of each, [n] twice.

    >>> [positions.tolist() for positions in drawn_clips(3, 2, seed=0)]
    [[0, 2], [0, 1]]
    """
    random, count = np.random.default_rng(seed), min(sources, targets)
    first, second = (np.sort(random.permutation(each)[:count]) for each in (sources, targets))
    return first, second


def tsne(source: Floats, target: Floats, seed: int) -> tuple[Floats, Floats]:
    """Features [N_s, D] and [N_t, D] → plane coordinates [n, 2] of each, for n = min(N_s, N_t) clips that `seed` draws.

    The start is by PCA. Where all features are equal, as those of a model whose units have died, all coordinates are 0:
    scikit-learn would crash on them.
    """
    picked = drawn_clips(len(source), len(target), seed)
    count = len(picked[0])
    both = np.concatenate([source[picked[0]], target[picked[1]]])
    if not np.ptp(both, axis=0).any():
        return np.zeros((count, 2)), np.zeros((count, 2))
    perplexity = min(30.0, (2 * count - 1) / 3)
    with threadpool_limits(1):  # its steps are short: on a busy machine two threads take a hundred times as long as one
        points = TSNE(init="pca", random_state=seed, perplexity=perplexity).fit_transform(both).astype(np.float64)
    return points[:count], points[count:]
