"""The input check as the commands run it: what it says, when it is skipped, and that it is done once."""

from pathlib import Path

import numpy as np
import pytest

from facekd.common.errors import UsageError
from facekd.data.same_person import SamePersonPairs
from facekd.data.source import Source, UnreadableImage
from facekd.data.sources.synthetic import SyntheticSource
from facekd.data.verification_set import VerificationSet
from facekd.runtimes.feedings import ways_of
from facekd.runtimes.input_check import Feeding
from facekd.runtimes.input_verdict import check_embedder, input_problem, options, recipe_fields
from facekd.runtimes.opening import open_file
from facekd.schemas.input_spec import InputSpec, StatedInput

PEOPLE = np.random.default_rng(4).integers(0, 256, (60, 16, 3), dtype=np.uint8)


class Faces:
    """A source of 60 people with three 4x4 pictures each: a person's own colours, and noise."""

    name, num_identities = "faces", 60
    labels = np.repeat(np.arange(60), 3)
    broken: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def key(self, i: int) -> str:
        return str(i)

    def read(self, i: int) -> np.ndarray:
        if i in self.broken:
            raise UnreadableImage(str(i), "broken")
        noise = np.random.default_rng([5, i]).integers(-40, 41, (16, 3)) * (1, 1, 5)  # blue says little
        return np.clip(PEOPLE[self.labels[i]].astype(int) + noise, 0, 255).astype(np.uint8).reshape(4, 4, 3)

    def fingerprint(self) -> str:
        return "faces"


def write(path: Path, *, classes: bool = False) -> Path:
    """An .onnx for (x - 127.5) / 127.5 in RGB: it looks at red and green, hardly at blue."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    weight = 4 * np.random.default_rng(6).normal(size=(3, 16, 24)).astype(np.float32)
    weight[2] *= 0.05
    constants = [numpy_helper.from_array(weight.reshape(48, 24), "w")]
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["embedding"])]
    outputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["b", 24])]
    if classes:  # hidden behind a product, so that the graph's end does not show that it is a Softmax
        nodes += [
            helper.make_node("Softmax", ["embedding"], ["p"], axis=1),
            helper.make_node("Mul", ["p", "one"], ["logits"]),
        ]
        constants.append(numpy_helper.from_array(np.float32(1), "one"))
        outputs.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", 24]))
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", 3, 4, 4])
    graph = helper.make_graph(nodes, "g", [image], outputs, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "facekd" / "input-checks"


def problem(ways: list[Feeding], faces: Source | VerificationSet, **given: object) -> str | None:
    settings = {"name": "m.onnx", "model_sha256": "0", "as_options": options, "go_on": "--trust-input", **given}
    return input_problem(ways, faces, **settings)  # type: ignore[arg-type]


def test_pixels_of_another_unit_stop_and_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx")
    check_embedder(path, open_file(path, threads=1), Faces())
    wrong = open_file(path, input_spec=InputSpec(mean=(0.0,) * 3, std=(1.0,) * 3), threads=1)
    words = r"fed RGB, pixels 0 to 255, .* the people of faces by \d\.\d+ .*give --mean 127.5 --std 127.5"
    with pytest.raises(UsageError, match=words):
        check_embedder(path, wrong, Faces())


def test_the_words_of_a_command_and_of_a_recipe() -> None:
    stated = StatedInput(colour="BGR", mean=(1, 2, 3), std=128)
    assert options(stated) == "give --colour BGR --mean 1,2,3 --std 128"
    assert recipe_fields(stated) == "give --set teacher.colour=BGR --set teacher.mean=1,2,3 --set teacher.std=128"


def test_probabilities_are_no_embedding(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", classes=True)
    with pytest.raises(UsageError, match=r"probabilities.*: give --output embedding, or go on"):
        check_embedder(path, open_file(path, output="logits", threads=1), Faces())
    check_embedder(path, open_file(path, output="embedding", threads=1), Faces())


def test_it_is_done_once_for_a_model_a_spec_and_data(tmp_path: Path, cache: Path) -> None:
    ways = ways_of(open_file(write(tmp_path / "m.onnx"), threads=1))
    asked: list[str] = []

    def counted(way: Feeding) -> Feeding:
        return Feeding(way.words, way.stated, lambda images: asked.append(way.words) or way.embed(images))

    wrong = [counted(way) for way in sorted(ways, key=lambda way: way.words != "RGB, pixels 0 to 255")]
    first = problem(wrong, Faces())
    assert first is not None and len(list(cache.iterdir())) == 1
    asked.clear()
    assert problem(wrong, Faces()) == first and not asked
    assert problem(wrong, Faces(), model_sha256="1") == first and asked
    asked.clear()
    assert problem([counted(way) for way in ways], Faces()) is None and asked
    asked.clear()
    assert problem(wrong, Faces(), model_sha256="") == first and asked
    next(cache.iterdir()).write_text("damaged")
    for file in cache.iterdir():
        file.write_text("damaged")
    assert problem(wrong, Faces()) == first


def test_what_cannot_be_judged_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ways = ways_of(open_file(write(tmp_path / "m.onnx"), threads=1))[::-1]
    few = Faces()
    few.labels = np.repeat(np.arange(5), 3)
    assert problem(ways, few) is None
    assert "how it is fed was not checked: faces holds 5 pairs of pictures of one person, 8 are needed" in caplog.text
    assert problem(ways, SyntheticSource(identities=20, images=2)) is None


def test_pairs_are_of_one_person_each_once_and_readable() -> None:
    faces = Faces()
    faces.broken = (0, 1, 2, 30)
    pairs = SamePersonPairs.of(faces, seed=3)
    assert len(pairs) == 60
    people = faces.labels[pairs.places]
    assert (people[:, 0] == people[:, 1]).all() and (pairs.places[:, 0] != pairs.places[:, 1]).all()
    assert sorted(people[:, 0]) == list(range(60))
    assert len(pairs.read(1000)) in (116, 118)
    images = [faces.read(i) for i in range(3, 23)]
    of_set = VerificationSet("set", images, np.arange(10) % 2 == 0, size=None)
    genuine = SamePersonPairs.of(of_set)
    assert sorted(map(tuple, genuine.places)) == [(4 * i, 4 * i + 1) for i in range(5)]
    assert genuine.read(2).shape == (4, 3, 4, 4)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["channels swapped inside", "normalised inside"])
def test_what_a_graph_does_inside_is_found(shared: Path, tmp_path: Path, case: str) -> None:
    """EdgeFace as AdaFace is (BGR), and as InsightFace's MXNet exports are, fed by what somebody states wrongly."""
    onnx = pytest.importorskip("onnx")
    from onnx import helper, numpy_helper

    model = onnx.load(shared / "weights" / "edgeface_xs.onnx")
    image = model.graph.input[0].name
    for node in model.graph.node:
        node.input[:] = ["inner" if name == image else name for name in node.input]
    if case == "channels swapped inside":
        constants = {"order": np.array([2, 1, 0])}
        nodes = [helper.make_node("Gather", [image, "order"], ["inner"], axis=1)]
        now, right = "RGB, (x - 127.5) / 127.5", "BGR, (x - 127.5) / 127.5"
    else:
        constants = {"mean_": np.float32(127.5), "scale_": np.float32(1 / 127.5)}
        nodes = [
            helper.make_node("Sub", [image, "mean_"], ["centred"]),
            helper.make_node("Mul", ["centred", "scale_"], ["inner"]),
        ]
        now, right = "RGB, (x - 127.5) / 127.5", "RGB, pixels 0 to 255"
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    onnx.save(model, tmp_path / "m.onnx")
    from facekd.data.opening import open_source

    opened = open_file(tmp_path / "m.onnx", input_spec=InputSpec(mean=(127.5,) * 3, std=(127.5,) * 3), threads=2)
    ways = [way for way in ways_of(opened) if way.words in (now, right)]
    found = problem(ways, open_source(shared / "data" / "celeba_train"))
    assert found is not None and f"fed {now}" in found and f"fed {right}" in found
