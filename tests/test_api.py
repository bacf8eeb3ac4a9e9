"""The public API and the examples that show it."""

import ast
import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import facekd

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def test_importing_facekd_imports_nothing_heavy() -> None:
    heavy = "torch", "cv2", "onnxruntime", "timm", "pydantic", "rich"
    code = f"import sys, facekd; print([name for name in {heavy} if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"


def test_every_public_name_is_there_typed_and_documented() -> None:
    api = importlib.import_module("facekd.api")
    assert set(facekd.__all__) == {"__version__", *api.__all__}
    for name in api.__all__:
        found = getattr(facekd, name)
        assert found is getattr(api, name)
        assert inspect.getdoc(found), name
        if inspect.isfunction(found):
            parameters = inspect.signature(found).parameters.values()
            assert all(one.annotation is not inspect.Parameter.empty for one in parameters), name
    # What a type checker sees is what there is: it reads the star import, which facekd.api.__all__ defines, and a list.
    text = inspect.getsource(facekd)
    assert "if TYPE_CHECKING:\n    from facekd.api import *\n" in text
    lists = [node for node in ast.parse(text).body if isinstance(node, ast.Assign) and isinstance(node.value, ast.List)]
    assert [set(ast.literal_eval(node.value)) for node in lists] == [{"__version__", *api.__all__}]
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        facekd.nothing  # noqa: B018


def test_two_pictures_of_one_face_are_nearer_than_of_two(shared: Path) -> None:
    model = facekd.open_model(shared / "weights" / "edgeface_xs.onnx")
    detector = facekd.YuNet(shared / "weights" / "yunet_n_640_640.onnx")
    photographs = shared / "data" / "lfw_raw"
    one, two = sorted((photographs / "Abel_Pacheco").glob("*.jpg"))[:2]
    other = min((photographs / "Angela_Bassett").glob("*.jpg"))
    same = facekd.compare_faces(model, one, two, detector=detector)
    assert same > facekd.compare_faces(model, one, other, detector=detector) + 0.2
    aligned = np.zeros((112, 112, 3), np.uint8)
    aligned[30:60, 20:50] = 200
    assert facekd.compare_faces(model, aligned, aligned) == pytest.approx(1)


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_runs(example: Path, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "FACEKD_TRUSTED_MODULES"}
    ran = subprocess.run(
        [sys.executable, str(example), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=environment,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout
    assert example.name in (EXAMPLES / "README.md").read_text(encoding="utf-8")
