"""t-SNE of the clips' features of both domains (van der Maaten and Hinton 2008), by scikit-learn."""

import numpy as np
import numpy.typing as npt
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

Floats = npt.NDArray[np.float64]


def tsne(source: Floats, target: Floats, seed: int) -> tuple[Floats, Floats]:
    """[N_s, D] and [N_t, D] → coordinates [n, 2] of each, n = min(N_s, N_t) clips drawn by `seed`; PCA start.

    Features that are all the same, as of a model whose units have died, lie in one point: scikit-learn would crash over them.
    """
    random = np.random.default_rng(seed)
    count = min(len(source), len(target))
    both = np.concatenate([x[np.sort(random.permutation(len(x))[:count])] for x in (source, target)])
    if not np.ptp(both, axis=0).any():
        return np.zeros((count, 2)), np.zeros((count, 2))
    perplexity = min(30.0, (2 * count - 1) / 3)
    with threadpool_limits(1):  # many short parallel steps: on a busy machine two threads take a hundred times one's time
        points = TSNE(init="pca", random_state=seed, perplexity=perplexity).fit_transform(both).astype(np.float64)
    return points[:count], points[count:]
