"""How a model is fed, judged on faces: the wrong ways are named, and the right one is never suspected."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from facekd.runtimes.feedings import in_words, other_specs
from facekd.runtimes.input_check import FIRST_PAIRS, MOST_PAIRS, Feeding, Verdict, deviate, judge, pair_scores
from facekd.schemas.input_spec import InputSpec, StatedInput


def silent(words: str) -> None:
    """A `tell` that says nothing."""


def people(
    noise: dict[str, float], *, seed: int, pairs: int = 200, width: int = 32
) -> tuple[list[Feeding], Callable[[int], np.ndarray]]:
    """Ways whose embeddings are a person's direction and so much noise; `read` gives numbered 1x1 pictures."""
    random = np.random.default_rng(seed)
    person = np.repeat(random.normal(size=(pairs, width)), 2, axis=0)
    shared = random.normal(size=person.shape)  # what a picture itself adds, whatever the way

    def way(name: str, amount: float) -> Feeding:
        own = 0.3 * np.random.default_rng([seed, len(name)]).normal(size=person.shape)
        values = person + amount * (shared + own)
        return Feeding(name, StatedInput(output=name), lambda images: values[: len(images)])

    ways = [way(name, amount) for name, amount in noise.items()]
    return ways, lambda count: np.zeros((2 * min(count, pairs), 3, 1, 1), np.uint8)


@pytest.mark.parametrize("seed", range(5))
def test_a_clearly_better_way_is_named(seed: int) -> None:
    ways, read = people({"as fed": 1.0, "worse": 1.3, "better": 0.8, "best!": 0.6}, seed=seed)
    better = judge(ways, read, tell=silent).better
    assert better is not None and (better.now, better.better, better.pairs) == ("as fed", "best!", MOST_PAIRS)
    assert better.separation_better > better.separation_now and better.stated == StatedInput(output="best!")


def test_ways_that_differ_by_chance_are_not_named() -> None:
    """40 models whose seven other ways are as good as the one that is used."""
    names = ["as fed", *("x" * n for n in range(10, 17))]
    for seed in range(40):
        ways, read = people(dict.fromkeys(names, 1.0), seed=seed)
        assert judge(ways, read, tell=silent).better is None


def test_noise_alone_is_not_proposed() -> None:
    ways, read = people({"as fed": 60.0, "other": 30.0}, seed=1)
    assert judge(ways, read, tell=silent).better is None


def test_the_scores_by_their_definition() -> None:
    embeddings = np.random.default_rng(2).normal(size=(10, 4))
    rows = [row / np.sqrt((row**2).sum()) for row in embeddings]
    two = np.array([rows[i] @ rows[j] for i in range(10) for j in range(i + 1, 10) if i // 2 != j // 2])
    expected = [(rows[2 * k] @ rows[2 * k + 1] - two.mean()) / two.std() for k in range(5)]
    np.testing.assert_allclose(pair_scores(embeddings), expected, rtol=1e-9)
    np.testing.assert_allclose(pair_scores(7 * embeddings), expected, rtol=1e-9)
    assert np.isfinite(pair_scores(np.zeros((8, 4)))).all()


@pytest.mark.parametrize("count", [8, 24, 128])
@pytest.mark.parametrize("shift", [-0.4, 0.2, 1.0])
def test_the_deviate_has_the_tail_of_the_t_test(count: int, shift: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    differences = np.random.default_rng(count).normal(size=count) + shift
    t, _ = stats.ttest_1samp(differences, 0)
    expected = stats.norm.isf(stats.t.sf(abs(t), count - 1)) * np.sign(t)
    assert deviate(differences) == pytest.approx(expected, rel=0.02)


def test_too_few_pairs_and_probabilities() -> None:
    ways, read = people({"as fed": 1.0, "other": 0.1}, seed=1, pairs=7)
    assert judge(ways, read, tell=silent) == Verdict()
    logits = np.random.default_rng(0).normal(size=(2 * FIRST_PAIRS, 9))
    soft = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    images = np.zeros((2 * FIRST_PAIRS, 3, 1, 1), np.uint8)
    for values, found in ((soft, True), (logits, False), (np.abs(logits), False)):
        way = Feeding("as fed", StatedInput(), lambda given, values=values: values)
        assert judge([way, way], lambda count: images, tell=silent).probabilities == found


def test_the_usual_ways_are_all_and_once() -> None:
    usual = [in_words(spec) for spec in (InputSpec(), *other_specs(InputSpec()))]
    assert usual == [
        "RGB, (x - 127.5) / 127.5",
        "RGB, x / 255",
        "RGB, pixels 0 to 255",
        "RGB, (x - 123.675,116.28,103.53) / 58.395,57.12,57.375",
        "BGR, (x - 127.5) / 127.5",
        "BGR, x / 255",
        "BGR, pixels 0 to 255",
        "BGR, (x - 103.53,116.28,123.675) / 57.375,57.12,58.395",
    ]
    own = InputSpec(colour="BGR", mean=(1.0, 2.0, 3.0), std=(128.0,) * 3)
    assert InputSpec(mean=(3.0, 2.0, 1.0), std=(128.0,) * 3) in list(other_specs(own))
    nearly = InputSpec(std=(128.0,) * 3)
    assert len(list(other_specs(nearly))) == len(usual) - 1


class Memo:
    """A model file's ways on real faces, each computed once for all tests of the module."""

    def __init__(self, path: Path, pairs: Callable[[int], np.ndarray], *, only: Sequence[str] = ()) -> None:
        from facekd.runtimes.feedings import ways_of
        from facekd.runtimes.opening import open_file

        self.path, self.pairs = path, pairs
        self.known: dict[tuple[str, int], np.ndarray] = {}
        ways = {way.words: way for way in ways_of(open_file(path, threads=2))}
        self.ways = {words: way for words, way in ways.items() if not only or words in only}

    def fed(self, words: str) -> Verdict:
        """The verdict where this way is the one that is used."""

        def memoised(way: Feeding) -> Feeding:
            def embed(images: np.ndarray) -> np.ndarray:
                key = (way.words, len(images))
                if key not in self.known:
                    self.known[key] = way.embed(images)
                return self.known[key]

            return Feeding(way.words, way.stated, embed)

        first, others = self.ways[words], [way for name, way in self.ways.items() if name != words]
        return judge([memoised(first), *map(memoised, others)], self.pairs, tell=silent)


RIGHT, SWAPPED = "RGB, (x - 127.5) / 127.5", "BGR, (x - 127.5) / 127.5"
PIXELS, IMAGENET = "RGB, pixels 0 to 255", "RGB, (x - 123.675,116.28,103.53) / 58.395,57.12,57.375"

NEAREST = (RIGHT, SWAPPED, "RGB, x / 255")
"""The ways that are hardest to tell apart."""


@pytest.fixture(scope="module")
def faces(shared: Path) -> Callable[[int], np.ndarray]:
    from facekd.data.opening import open_source
    from facekd.data.same_person import SamePersonPairs

    return SamePersonPairs.of(open_source(shared / "data" / "celeba_train"), seed=0).read


@pytest.fixture(scope="module")
def edgeface(shared: Path, faces: Callable[[int], np.ndarray]) -> Memo:
    return Memo(shared / "weights" / "edgeface_xs.onnx", faces)


@pytest.mark.slow
@pytest.mark.parametrize("words", [SWAPPED, PIXELS, IMAGENET])
def test_edgeface_fed_otherwise_is_named(edgeface: Memo, words: str) -> None:
    better = edgeface.fed(words).better
    assert better is not None and better.better == RIGHT and better.deviate > 5


@pytest.mark.slow
def test_edgeface_fed_rightly_is_not_suspected(edgeface: Memo, shared: Path) -> None:
    from facekd.data.opening import open_source
    from facekd.data.same_person import SamePersonPairs

    assert edgeface.fed(RIGHT).better is None
    source = open_source(shared / "data" / "celeba_train")
    for seed in range(1, 5):
        other = Memo(edgeface.path, SamePersonPairs.of(source, seed=seed).read, only=NEAREST)
        assert other.fed(RIGHT).better is None


@pytest.mark.slow
def test_a_public_tflite(shared: Path, faces: Callable[[int], np.ndarray]) -> None:
    model = Memo(shared / "weights" / "mobilefacenet_192.tflite", faces, only=(RIGHT, SWAPPED))
    assert model.fed(RIGHT).better is None
    better = model.fed(SWAPPED).better
    assert better is not None and better.better == RIGHT
