"""The thresholds that app and page take for a gallery, on people they were not calibrated on: LFW by EdgeFace-XS."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facekd.benchmarks.studies.gallery_size import Photographs, draw, measure, table
from facekd.evaluation.calibration import calibrate
from facekd.evaluation.embedding import embed_images
from facekd.evaluation.gallery import GalleryRate, measure_galleries
from facekd.runtimes.opening import open_file
from facekd.schemas.calibration import Calibration
from tests.android.gallery_reference import LFW_TABLE, answer, entries, galleries, manifests

CALIBRATED, OTHERS = 800, 300


@pytest.fixture(scope="module")
def embeddings(shared: Path) -> np.ndarray:
    """float32 [1100, 512] of the first photograph of as many people; the first CALIBRATED are for the table."""
    if not (shared / "data" / "lfw.bin").is_file():
        pytest.skip(f"no lfw.bin in {shared / 'data'}")
    photographs = Photographs(shared / "data" / "lfw.bin", shared / "data" / "lfw_pairs.txt")
    people, first = np.unique(photographs.identities, return_index=True)
    drawn = np.random.default_rng(0).permutation(len(people))[: CALIBRATED + OTHERS]
    images = [photographs[int(first[person])] for person in drawn]
    embedder = open_file(shared / "weights" / "edgeface_xs.onnx", threads=1)
    return embed_images(embedder, images, batch_size=64, description="LFW")


def table_of(embeddings: np.ndarray) -> Calibration:
    """Of the first CALIBRATED people."""
    people = np.arange(CALIBRATED)
    return calibrate(embeddings[people], people, faces="800 people of LFW", fingerprint="0" * 64)


def measured(embeddings: np.ndarray, threshold: float, promise: float, size: int) -> GalleryRate:
    """How often a stranger among the OTHERS is named by a gallery of `size` of them, at this threshold."""
    fixed = {"far": promise / size, "threshold_cos": threshold, "far_low": 0.0, "far_high": 1.0}
    stated = {"faces": "", "fingerprint": "", "images": 0, "identities": 0, "impostor_pairs": 0, "method": ""}
    table = Calibration.model_validate({**stated, "thresholds": [fixed]})
    people = np.arange(OTHERS)
    (rate,) = measure_galleries(embeddings[CALIBRATED:], people, table, sizes=[size], promises=[promise])
    return rate


@pytest.mark.slow
def test_what_app_and_page_promise_holds_for_other_people(embeddings: np.ndarray) -> None:
    """10, 100 and 200 enrolled: by the gallery's threshold the promise holds; by that of one pair, as before, it fails.

    The table is that of the vectors, so Kotlin and JavaScript take these thresholds (they are held to the vectors).
    """
    kept = Calibration.model_validate_json(LFW_TABLE.read_text(encoding="utf-8"))
    made = table_of(embeddings)
    assert (made.impostor_pairs, made.identities) == (kept.impostor_pairs, kept.identities)
    for ours, theirs in zip(made.thresholds, kept.thresholds, strict=True):
        assert ours.far == pytest.approx(theirs.far)
        assert ours.threshold_cos == pytest.approx(theirs.threshold_cos, abs=2e-3)
    cases = [case for case in galleries()["cases"] if case["table"] == "lfw"]
    (pair,) = [c["expected"] for c in cases if (c["fpir"], c["samples"]) == (1e-3, 1)]
    for size, fpir in ((10, 1e-2), (10, 1e-3), (100, 1e-2), (200, None)):
        (said,) = [c["expected"] for c in cases if (c["fpir"], c["samples"]) == (fpir, size)]
        assert said["kept"]
        rate = measured(embeddings, said["threshold_cos"], said["fpir"], size)
        assert rate.fpir is not None and rate.fpir_low is not None and rate.fpir_high is not None
        (entry,) = [e for e in kept.thresholds if e.threshold_cos == said["threshold_cos"]]
        assert rate.fpir_low <= said["at_worst"] and size * entry.far_low <= rate.fpir_high
        assert rate.fpir_low <= said["fpir"] and rate.fpir <= said["at_worst"]
        # Seen: the threshold of "1 in 1,000" pairs, whatever the gallery.
        naive = measured(embeddings, pair["threshold_cos"], 1e-3, size)
        assert naive.fpir is not None and naive.fpir_low is not None
        assert naive.fpir_low > 1e-3 and naive.fpir > 0.5 * size * 1e-3
    (refused,) = [c["expected"] for c in cases if (c["fpir"], c["samples"]) == (1e-3, 200)]
    assert not refused["kept"]


def test_the_reference_takes_what_facekds_table_takes() -> None:
    """Two writings of one rule: exact fractions there, Calibration.threshold_for here."""
    found = 0
    parts: dict[str, dict[str, Any]] = manifests()
    for case in galleries()["cases"]:
        part = parts[case["table"]]
        if part["calibration"] is None or case["fpir"] is None:
            continue
        table = Calibration.model_validate(part["calibration"])
        chosen = table.threshold_for(case["fpir"] / max(case["samples"], 1))
        assert case["expected"]["kept"] == (chosen is not None)
        if chosen is not None:
            assert case["expected"]["threshold_cos"] == chosen.threshold_cos
            found += 1
    assert found > 50


def test_a_refusal_says_what_would_do() -> None:
    """So many samples are promised for, one more is not; so many people with one image each give the rate."""
    table = entries(manifests()["made"])
    said = answer(table, 1e-3, 5000)
    most = said["most_samples"]
    assert answer(table, 1e-3, most)["kept"] and not answer(table, 1e-3, most + 1)["kept"]
    assert answer(table, 1 / said["best_one_in"], 5000)["kept"]
    pairs = said["people_needed"] * (said["people_needed"] - 1) / 2
    rates = [10 ** (-2 - step / 10) for step in range(71)]
    lowest = min(rate for rate in rates if int(rate * pairs) >= 30)
    assert lowest * 5000 <= 1e-3 < 1.6 * lowest * 5000


def test_the_study_measures_both_thresholds(tmp_path: Path) -> None:
    """On made faces: one pair's threshold names ever more strangers, the gallery's keeps the promise."""
    random = np.random.default_rng(0)
    people = np.repeat(np.arange(500), 2)
    faces = random.standard_normal((500, 32))[people] + 0.4 * random.standard_normal((1000, 32))
    calibration, curves = measure(faces, people, faces="made", sizes=(1, 10, 100, 400))
    assert calibration.identities == 250
    for one in curves:
        assert [rate.people for rate in one.by_pair] == [rate.people for rate in one.by_gallery] == [1, 10, 100]
        assert len({rate.threshold_cos for rate in one.by_pair}) == 1
        assert one.by_pair[1].fpir is not None and one.by_pair[1].fpir > 5 * one.promised
        for pair, gallery in zip(one.by_pair, one.by_gallery, strict=True):
            chosen = calibration.threshold_for(one.promised / gallery.people)
            assert gallery.threshold_cos == (None if chosen is None else chosen.threshold_cos)
            if gallery.fpir is not None:
                assert gallery.fpir < 2 * one.promised and gallery.fpir <= (pair.fpir or 0)
    assert curves[1].by_gallery[2].threshold_cos is None
    assert "not supported" in table(curves).markdown()
    pytest.importorskip("matplotlib")
    draw(tmp_path / "fpir.png", curves, title="made")
    assert (tmp_path / "fpir.png").read_bytes().startswith(b"\x89PNG")


def test_the_vectors_are_the_references(request: pytest.FixtureRequest) -> None:
    """Kotlin and JavaScript read the file; here it is what the reference gives today."""
    file = request.config.rootpath / "android_demo/core/src/test/resources/gallery.json"
    if not file.is_file():
        pytest.skip("not run from a checkout: there is no android_demo")
    assert json.loads(file.read_text(encoding="utf-8")) == json.loads(json.dumps(galleries()))
