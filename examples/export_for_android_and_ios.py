"""One student as Core ML, TFLite and ONNX: each file is verified against the student before it is kept."""

import sys
import tempfile
from pathlib import Path

import facekd

SMALL = {"scale": 0.25, "blocks": [1, 1, 1, 1], "feature_channels": 64, "embedding_width": 64}


def main(out: Path, targets: tuple[str, ...] = ("onnx", "tflite", "coreml")) -> list[Path]:
    """Exports to each target and checks what was written; returns the artefacts."""
    student = facekd.create_model("mobilefacenet", **SMALL)
    card = facekd.describe(student, kind="student", name="small", architecture="mobilefacenet", arguments=SMALL)
    bundle = facekd.save_bundle(out / "bundle", student, card)
    artefacts = []
    for target in targets:
        manifest = facekd.export_bundle(bundle, out / target, target=target)
        # What a device farm, or a colleague with the folder alone, would run again.
        report = facekd.check_artefact(out / target)
        size_mb, cosine = manifest.size_bytes / 1e6, manifest.parity.cosine_min
        print(f"{target}: {manifest.model}, {size_mb:.2f} MB, worst cosine {cosine:.6f} on {report.runtime}")
        artefacts.append(out / target)
    return artefacts


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(folder))
