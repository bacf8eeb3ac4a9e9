"""A biometric library must not report on its users: the ONNX Runtime installed here cannot."""

import os
from pathlib import Path

import pytest

onnxruntime = pytest.importorskip("onnxruntime")


def test_version_and_switch() -> None:
    import facekd  # noqa: F401

    major, minor = (int(part) for part in onnxruntime.__version__.split(".")[:2])
    assert (major, minor) < (1, 29), "1.29 and later send telemetry"
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


def test_no_library_holds_an_upload_address() -> None:
    folder = Path(onnxruntime.__file__).parent
    libraries = [
        path for path in folder.rglob("*") if path.suffix in (".so", ".pyd", ".dll", ".dylib") or ".so." in path.name
    ]
    assert libraries
    for library in libraries:
        content = library.read_bytes()
        for address in (
            b"events.data.microsoft.com",
            b"vortex.data.microsoft.com",
            b"OneCollector",
            b"applicationinsights",
        ):
            assert address not in content, f"{library.name} holds {address.decode()}"
