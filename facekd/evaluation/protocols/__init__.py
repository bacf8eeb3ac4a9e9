"""The big published benchmarks, one file each: it reads the benchmark as published, runs it, and shows the figures.

LFW, CFP-FP, AgeDB-30, CALFW and CPLFW are sets of pairs that share the 10-fold protocol of
facekd.evaluation.verification: `facekd evaluate --pairs`. A protocol of your own is a class in any package, named as
`package.module:Class`, or by its name once its package registers it under the entry-point group `facekd.protocols`.
"""

import dataclasses
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from facekd.common.errors import UsageError
from facekd.common.registry import Registry
from facekd.common.table import Table
from facekd.evaluation.feature_cache import FeatureCache, ListedImages, default_cache, model_sha256
from facekd.runtimes.embedder import Embedder


@dataclass(frozen=True)
class ProtocolOptions:
    """How a protocol is run.

    Attributes:
        keep_norm: IJB: an image weighs with its feature's norm.
        detector_score: IJB: an image weighs with its detector's score.
        cache: folder of features; None is the user's cache folder.
        batch_size: images a batch.
        progress: show bars on stderr.
    """

    keep_norm: bool = True
    detector_score: bool = True
    cache: Path | None = None
    batch_size: int = 64
    progress: bool = False


class ListFeatures:
    """Features of a protocol's lists of images, computed once and cached.

    Attributes:
        used: name -> path of the features, images, and how many were computed now.
    """

    def __init__(self, model: Path, embedder: Embedder, options: ProtocolOptions) -> None:
        self._model, self._embedder, self._options = model, embedder, options
        self.used: dict[str, Any] = {}

    def __call__(self, name: str, images: ListedImages) -> np.ndarray:
        """float32 [n, e] of all `images`, under a name for the report."""
        cached = FeatureCache(self._options.cache or default_cache()).features(
            self._embedder,
            images,
            model_sha256=model_sha256(self._model),
            batch_size=self._options.batch_size,
            progress=self._options.progress,
            description=name,
        )
        self.used[name] = {"path": str(cached.path), "images": len(images), "computed_now": cached.computed}
        return cached.features


class PublishedProtocol(ABC):
    """One benchmark, run as it was published."""

    @abstractmethod
    def run(
        self, folder: Path, embedder: Embedder, features: ListFeatures, options: ProtocolOptions
    ) -> tuple[str, dict[str, Any]]:
        """Runs it.

        Args:
            folder: the benchmark as it is published.
            embedder: the model, opened.
            features: embeds lists of images through the cache.
            options: see ProtocolOptions.

        Returns:
            How the figures come about, in one line; the figures as plain types for JSON, rates from 0 to 1.

        Raises:
            UsageError: the folder is not laid out so.
            FacekdError: lists or images are damaged or missing.
        """

    @abstractmethod
    def tables(self, figures: Mapping[str, Any]) -> Sequence[Table]:
        """The figures of `run` for people."""


PROTOCOLS: Registry[type[PublishedProtocol]] = Registry(
    "published protocol", package="facekd.evaluation.protocols", group="facekd.protocols"
)
"""Name -> protocol."""


@dataclass(frozen=True)
class ProtocolReport:
    """Attributes:
    benchmark: the protocol's name.
    protocol: how the figures come about, in one line.
    figures: plain types for JSON, rates from 0 to 1.
    features: what was embedded: name -> path, images, and how many were computed now.
    seconds: embedding included.
    """

    benchmark: str
    protocol: str
    figures: dict[str, Any]
    features: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON."""
        return dataclasses.asdict(self)


def run_protocol(name: str, folder: Path, model: Path, embedder: Embedder, options: ProtocolOptions) -> ProtocolReport:
    """Runs a published protocol.

    Args:
        name: of PROTOCOLS, or `package.module:Class`.
        folder: the benchmark as it is published; see the protocol's module.
        model: where the model lies: its hash names the cached features.
        embedder: the model, opened.
        options: see ProtocolOptions.

    Raises:
        UsageError: an unknown name, or a folder that is not laid out so.
        FacekdError: lists or images are damaged or missing.
    """
    protocol = PROTOCOLS.find(name)()
    if not folder.is_dir():
        raise UsageError(f"no folder {folder}: give the folder that holds {name} as it is published")
    start = time.perf_counter()
    features = ListFeatures(model, embedder, options)
    described, figures = protocol.run(folder, embedder, features, options)
    return ProtocolReport(name, described, figures, features.used, time.perf_counter() - start)


def percent(rate: float | None) -> str:
    """A rate for a table; empty where there is none."""
    return "" if rate is None else f"{100 * rate:.2f}"
