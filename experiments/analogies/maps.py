"""Maps from one behaviour's feature differences to another's, learnt from a few matched pairs.

Rows are differences of features, `(k, d_sae)` float64. A few rows span little of that space: a map
says something of what lies in the span of the first behaviour's rows alone, and leads into the span
of the second's.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.kernel_ridge import KernelRidge

from experiments.subject import Subject
from trimtab.pairs import Sample

Floats = NDArray[np.float64]

RANK_TOLERANCE = 1e-9  # of the largest singular value, below which a direction is noise


def matched_pairs(one: Subject, other: Subject, few: int) -> list[int]:
    """Return the rows of `one` whose texts are most alike to the first `few` rows of `other`.

    Each row is matched once.
    """
    theirs, ours = ([_text(s) for s in subject.material.select] for subject in (one, other))
    words = TfidfVectorizer().fit([*theirs, *ours])
    alike = (words.transform(ours[:few]) @ words.transform(theirs).T).toarray()
    _, columns = linear_sum_assignment(alike, maximize=True)
    return [int(column) for column in columns]


def orthogonal(x: Floats, y: Floats, at: Floats) -> Floats:
    """Turn `at` `(d,)` by the rotation that best turns the rows of `x` into those of `y`.

    Orthogonal Procrustes (Schoenemann 1966), without the directions that the rows say nothing of:
    there it would turn at random.
    """
    of_x, in_x = np.linalg.qr(x.T)
    of_y, in_y = np.linalg.qr(y.T)
    u, strength, v = np.linalg.svd(in_x @ in_y.T)
    kept = strength > RANK_TOLERANCE * strength[0]
    return np.asarray((at @ of_x) @ u[:, kept] @ v[kept] @ of_y.T)


def linear(x: Floats, y: Floats, at: Floats) -> Floats:
    """Map `at` `(d,)` by ridge regression of the rows of `y` on those of `x`.

    The penalty is as strong as a row is long.
    """
    model = KernelRidge(alpha=float((x**2).sum(1).mean())).fit(x, y)
    return np.asarray(model.predict(at[None])[0])


MAPS = {"orthogonal map": orthogonal, "linear map": linear}


def _text(sample: Sample) -> str:
    return " ".join([sample.prompt, *(text for _, text in sample.sides)])
