"""The big published benchmarks, each from its folder as it is published: IJB-B, IJB-C, MegaFace, TinyFace, RFW.

LFW, CFP-FP, AgeDB-30, CALFW and CPLFW are .bin sets: `facekd evaluate --pairs`, facekd.evaluation.evaluate.
"""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facekd.common.errors import UsageError
from facekd.evaluation.embedding import Embedder, evaluate_verification
from facekd.evaluation.fairness import compare_groups
from facekd.evaluation.feature_cache import FeatureCache, ListedImages, default_cache, model_sha256
from facekd.evaluation.identification import Identification, identify, megaface
from facekd.evaluation.templates import Templates, pair_scores, pool_templates, tar_at_nearest_far
from facekd.evaluation.verification import far_name

IJB_FARS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


@dataclass(frozen=True)
class Options:
    """How a benchmark is run.

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


@dataclass(frozen=True)
class BenchmarkReport:
    """Attributes:
    benchmark: its name.
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


def run_benchmark(name: str, folder: Path, model: Path, embedder: Embedder, options: Options) -> BenchmarkReport:
    """Runs one of BENCHMARKS.

    Args:
        name: a key of BENCHMARKS.
        folder: the benchmark as it is published; see facekd.data's module of its name.
        model: where the model lies: its hash names the cached features.
        embedder: the model, opened.
        options: see Options.

    Raises:
        UsageError: an unknown name, or a folder that is not laid out so.
        FacekdError: lists or images are damaged or missing.
    """
    if name not in BENCHMARKS:
        raise UsageError(f"unknown benchmark {name}: valid are {', '.join(BENCHMARKS)}")
    if not folder.is_dir():
        raise UsageError(f"no folder {folder}: give the folder that holds {name} as it is published")
    start = time.perf_counter()
    features = _Features(model, embedder, options)
    protocol, figures = BENCHMARKS[name](folder, embedder, features, options)
    return BenchmarkReport(name, protocol, figures, features.used, time.perf_counter() - start)


class _Features:
    """Features of lists of images through the cache; notes what was used."""

    def __init__(self, model: Path, embedder: Embedder, options: Options) -> None:
        self._model, self._embedder, self._options = model, embedder, options
        self.used: dict[str, Any] = {}

    def __call__(self, name: str, images: ListedImages) -> Any:
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


def _ijb(name: Any) -> Callable[..., tuple[str, dict[str, Any]]]:
    def run(folder: Path, embedder: Embedder, features: _Features, options: Options) -> tuple[str, dict[str, Any]]:
        from facekd.data.ijb import read_ijb, read_pairs

        ijb = read_ijb(folder, name, size=embedder.input.size)
        if not ijb.pairs_file.is_file() and not ijb.galleries:
            raise UsageError(f"{ijb.meta} has neither {ijb.pairs_file.name} (1:1) nor {name}_1N_*.csv (1:N)")
        templates = pool_templates(
            features(name, ijb.images),
            ijb.templates,
            ijb.media,
            scores=ijb.scores if options.detector_score else None,
            keep_norm=options.keep_norm,
        )
        figures: dict[str, Any] = {"images": len(ijb.images), "templates": len(templates.ids)}
        if ijb.pairs_file.is_file():
            first, second, issame = read_pairs(ijb.pairs_file)
            figures["1:1"] = verify_templates(templates, first, second, issame, where=ijb.pairs_file.name)
        if ijb.probes is not None:
            probes = templates.features[templates.rows(ijb.probes.templates, where="the list of probes")]
            results = {}
            for gallery, enrolled in ijb.galleries.items():
                rows = templates.rows(enrolled.templates, where=f"gallery {gallery}")
                results[gallery] = identify(templates.features[rows], enrolled.subjects, probes, ijb.probes.subjects)
            figures["1:N"] = {
                "mean": mean_of_galleries(list(results.values())),
                **{gallery: identification_figures(result) for gallery, result in results.items()},
            }
        weights = [word for word, on in (("norm", options.keep_norm), ("detector score", options.detector_score)) if on]
        protocol = (
            f"flip-sum, images weighed by {' and '.join(weights) or 'nothing'}, mean in media, sum over media; TAR at "
            "the nearest measured FAR; 1:N: mean of the galleries, mixed probes, threshold from top non-mated scores"
        )
        return protocol, figures

    return run


def verify_templates(templates: Templates, first: Any, second: Any, issame: Any, *, where: str) -> dict[str, Any]:
    """1:1 over pairs of template ids: TAR at FAR, for JSON."""
    scores = pair_scores(templates.features, templates.rows(first, where=where), templates.rows(second, where=where))
    points = tar_at_nearest_far(scores, issame, IJB_FARS)
    return {
        "pairs": len(issame),
        "genuine": int(issame.sum()),
        "tar_at_far": {far_name(point.far): point.tar for point in points},
        "measured_far": {far_name(point.far): point.measured_far for point in points},
        "threshold_cos": {far_name(point.far): point.threshold_cos for point in points},
    }


def identification_figures(result: Identification) -> dict[str, Any]:
    """An identification's figures for JSON."""
    return {
        "rank": {str(rank): rate for rank, rate in result.ranks.items()},
        "tpir_at_fpir": {far_name(fpir): rate for fpir, rate in result.tpir.items()},
        "threshold_cos": {far_name(fpir): limit for fpir, limit in result.threshold_cos.items()},
        "unsupported_fpirs": [far_name(fpir) for fpir in result.unsupported_fpirs],
        "mated_probes": result.mated,
        "non_mated_probes": result.non_mated,
        "gallery": result.gallery,
    }


def mean_of_galleries(results: list[Identification]) -> dict[str, Any]:
    """The mean of each figure that every gallery has."""
    fpirs = [fpir for fpir in results[0].tpir if all(fpir in result.tpir for result in results)]
    count = len(results)
    return {
        "rank": {str(rank): sum(result.ranks[rank] for result in results) / count for rank in results[0].ranks},
        "tpir_at_fpir": {far_name(fpir): sum(result.tpir[fpir] for result in results) / count for fpir in fpirs},
    }


def _megaface(folder: Path, embedder: Embedder, features: _Features, options: Options) -> tuple[str, dict[str, Any]]:
    from facekd.data.megaface import read_megaface

    data = read_megaface(folder, size=embedder.input.size)
    probes = features("megaface probes", data.probes)
    result = megaface(probes, data.subjects, features("megaface distractors", data.distractors))
    figures = {
        "rank1": result.rank1,
        "tar_at_far": {} if result.tar is None else {far_name(result.far): result.tar},
        "threshold_cos": {} if result.tar is None else {far_name(result.far): result.threshold_cos},
        "unsupported_fars": [far_name(result.far)] if result.tar is None else [],
        "probes": len(data.probes),
        "distractors": len(data.distractors),
        "genuine": result.genuine,
        "impostor": result.impostor,
        "noisy_probes_left_out": data.noisy_probes,
        "noisy_distractors_left_out": data.noisy_distractors,
    }
    return "challenge 1: one image of the person among all distractors; impostors: probes x distractors", figures


def _tinyface(folder: Path, embedder: Embedder, features: _Features, options: Options) -> tuple[str, dict[str, Any]]:
    from facekd.data.tinyface import read_tinyface

    data = read_tinyface(folder, size=embedder.input.size)
    result = identify(
        features("tinyface gallery", data.gallery),
        data.gallery_subjects,
        features("tinyface probes", data.probes),
        data.probe_subjects,
        ranks=(1, 5, 10, 20),
        fpirs=(),
    )
    figures = {
        "rank": {str(rank): rate for rank, rate in result.ranks.items()},
        "probes": len(data.probes),
        "probes_without_mate": result.non_mated,
        "gallery": len(data.gallery),
        "distractors": data.distractors,
    }
    return "cosine; rank k: any gallery image of the person among the first k, ties count against", figures


def _rfw(folder: Path, embedder: Embedder, features: _Features, options: Options) -> tuple[str, dict[str, Any]]:
    from facekd.data.rfw import find_rfw, read_rfw
    from facekd.evaluation.evaluate import PROTOCOL

    results = {
        group: evaluate_verification(
            embedder,
            read_rfw(path, group, size=embedder.input.size),
            batch_size=options.batch_size,
            progress=options.progress,
        )
        for group, path in find_rfw(folder).items()
    }
    compared = compare_groups(results)
    figures = {
        "accuracy": compared.accuracies,
        "mean": compared.mean,
        "std_n_minus_1": compared.std,
        "skewed_error_ratio": compared.skewed_error_ratio,
        "one_threshold_for_all": [
            {**dataclasses.asdict(rates), "far": far_name(rates.far)} for rates in compared.rates
        ],
        "groups": {group: result.to_dict() for group, result in results.items()},
    }
    return f"each group: {PROTOCOL}; skewed error ratio: highest over lowest error", figures


BENCHMARKS: dict[str, Callable[..., tuple[str, dict[str, Any]]]] = {
    "ijbb": _ijb("ijbb"),
    "ijbc": _ijb("ijbc"),
    "megaface": _megaface,
    "tinyface": _tinyface,
    "rfw": _rfw,
}
"""Name -> what runs it."""
