"""Pairs of synthetic people to verify, drawn from a short description."""

import numpy as np

from facekd.common.errors import UsageError
from facekd.common.validation import shown
from facekd.data.synthetic import PAIRS_FIRST_IDENTITY, draw_face, synthetic_config, synthetic_fields
from facekd.data.verification_set import VerificationSet

MAX_PAIRS = 100_000


def synthetic_pairs(text: str) -> VerificationSet:
    """A VerificationSet from `identities=64,pairs=600,seed=0` (and any strength of SyntheticConfig).

    Half the pairs show one person, half two, in ten folds of alternating halves as LFW has them when `pairs` is a
    multiple of 20. Identities start at PAIRS_FIRST_IDENTITY unless first_identity says otherwise.
    """
    fields = synthetic_fields(text)
    try:
        pairs = int(fields.pop("pairs", "600"))
    except ValueError:
        raise UsageError(f"synthetic pairs: pairs must be a whole number, got {shown(text)}") from None
    if not 2 <= pairs <= MAX_PAIRS:  # their images are all held in memory
        raise UsageError(f"synthetic pairs: pairs must be at least 2 and at most {MAX_PAIRS:,}, got {shown(pairs)}")
    config = synthetic_config({"first_identity": PAIRS_FIRST_IDENTITY, "images": 1_000_000, **fields})
    if config.identities < 2 or config.images < 2:
        raise UsageError(
            f"synthetic pairs need 2 identities and 2 images of each, got {config.identities} and {config.images}"
        )
    fold = pairs // 10 if pairs % 20 == 0 else pairs
    issame = np.arange(pairs) % fold < fold // 2
    rng = np.random.default_rng([config.seed, config.first_identity])
    images: list[np.ndarray] = []
    for same in issame:
        first, second = rng.choice(config.identities, 2, replace=False)
        samples = rng.choice(config.images, 2, replace=False)
        for person, sample in zip((first, first if same else second), samples, strict=True):
            images.append(draw_face(config, config.first_identity + int(person), int(sample))[0])
    name = f"synthetic-pairs-{config.identities}-seed{config.seed}-from{config.first_identity}"
    return VerificationSet(name, images, issame, fold_sizes=[fold] * (pairs // fold))
