"""The verbs that write, from alignment to export, small, each with a digest of what it should leave."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from facekd.common.errors import FacekdError
from tests.faults.children import Ended, call_verb, run_child
from tests.faults.targets import MODEL

LIMIT_S = 300.0
Words = Callable[[Path], list[str]]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One verb with its input.

    Attributes:
        words: the command line that writes to a place; given again, it goes on or begins anew.
        digest: of what is at a place; None where there is nothing; raises FacekdError where something is not whole.
        over: another command line, with another result, that the first replaces in `over_words`.
    """

    name: str
    words: Words
    digest: Callable[[Path], str | None]
    over: Words | None = None

    def run(self, place: Path, **limits: object) -> Ended:
        """Runs it in a process of its own."""
        return run_child(call_verb(*self.words(place)), **{"limit_s": LIMIT_S, **limits})  # type: ignore[arg-type]

    def look(self, place: Path) -> tuple[str | None, str]:
        """(digest, what is wrong)."""
        try:
            return self.digest(place), ""
        except Exception as error:
            return None, f"{type(error).__name__}: {error}"


def build_jobs(folder: Path, *, names: list[str] | None = None) -> list[Job]:
    """The jobs, with their inputs below `folder`."""
    from facekd.data import aligned_parts
    from facekd.data.decoding import encode_png
    from facekd.data.opening import open_source
    from facekd.data.packing import pack_records, write_folder
    from facekd.data.sources.synthetic import SyntheticSource
    from facekd.data.verification_bin import write_bin
    from facekd.data.verification_set import VerificationSet
    from tests.faults.targets import make_bundle
    from tests.runtimes.test_scrfd import picture, write

    drawn = SyntheticSource(identities=4, images=6, seed=0)
    pack_records(drawn, folder / "faces")
    faces = open_source(str(folder / "faces"))
    write_folder(faces, folder / "photographs-0")
    write_folder(faces, folder / "photographs-1", quality=60)
    pictures = [faces.read(i) for i in range(len(faces))]
    for number, step in enumerate((5, 7)):
        pairs = [(i, (i + 1 + step * (i % 2)) % len(faces)) for i in range(20)]  # the next picture, or somebody else's
        issame = [bool(faces.labels[a] == faces.labels[b]) for a, b in pairs]
        images = [pictures[i] for pair in pairs for i in pair]
        write_bin(folder / f"set-{number}.bin", VerificationSet("set", images, issame))
    write(folder / "detector.onnx")
    for number in range(2):
        for k in range(24):
            file = folder / f"pictures-{number}/{k // 6}/{k}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encode_png(picture(64, 96, 24 * number + k)))
    aligned_parts.COMMIT_S = 0.0  # each photograph is synced, so that kills find some kept and some not
    bundles = [make_bundle(folder / f"bundle-{number}", seed=number) for number in range(2)]
    teacher = make_bundle(folder / "teacher", kind="teacher")
    (folder / "recipe.yaml").write_text(_recipe(folder), encoding="utf-8")

    def pack(number: int) -> Words:
        return lambda place: ["data", "pack", str(folder / f"photographs-{number}"), str(place), "--overwrite"]

    def evaluate(number: int) -> Words:
        words = ["evaluate", str(bundles[0]), "--pairs", str(folder / f"set-{number}.bin"), "--threads", "1"]
        return lambda place: [*words, "--out", str(place), "--overwrite"]

    def export(number: int) -> Words:
        return lambda place: ["export", str(bundles[number]), "--target", "onnx", "--out", str(place), "--overwrite"]

    def train(place: Path) -> list[str]:
        return ["train", str(folder / "recipe.yaml"), "--out", str(place), "--resume"]

    def store(place: Path) -> list[str]:
        words = ["teacher", "cache", str(folder / "recipe.yaml"), "--out", str(place), "--views", "3", "--trust-input"]
        words += ["--set", "distillation.embedding={}", "--set", f"teacher.bundle={teacher}"]
        return [*words, "--batch-size", "2"]

    def embed(number: int) -> Words:
        words = ["embed", str(bundles[number]), str(folder / "faces"), "--threads", "1", "--batch-size", "1"]
        return lambda place: [*words, "--out", str(place / "e.npz"), "--overwrite"]

    def align(number: int) -> Words:
        words = ["data", "align", str(folder / f"pictures-{number}"), "--detector", str(folder / "detector.onnx")]
        return lambda place: [*words[:3], str(place), *words[3:], "--workers", "1", "--overwrite"]

    jobs = [
        Job(name="align", words=align(0), over=align(1), digest=_aligned),
        Job(name="pack", words=pack(0), over=pack(1), digest=_packed),
        Job(name="train", words=train, digest=_trained),
        Job(name="embed", words=embed(0), over=embed(1), digest=_embedded),
        Job(name="evaluate", words=evaluate(0), over=evaluate(1), digest=_evaluated),
        Job(name="export", words=export(0), over=export(1), digest=_exported),
        Job(name="teacher", words=store, digest=_stored),
    ]
    return [job for job in jobs if names is None or job.name in names]


def _recipe(folder: Path) -> str:
    return f"""name: tiny
data: {{source: {json.dumps(str(folder / "faces"))}, workers: 0}}
model: {{name: mobilefacenet, arguments: {json.dumps(MODEL)}}}
head: {{name: cosface, arguments: {{scale: 24, margin: 0.2}}}}
optimisation: {{optimiser: adamw, lr: 1.0e-3}}
training:
  {{max_steps: 8, epochs: 100, batch_size: 8, precision: fp32, device: cpu, threads: 1, checkpoint_every: 1,
   channels_last: false}}
evaluation: {{dev: null}}
"""


def _aligned(place: Path) -> str | None:
    if not (place / "report.json").exists():
        if place.exists() and any(place.iterdir()):
            raise FacekdError("faces without a report")
        return None
    report = json.loads((place / "report.json").read_text(encoding="utf-8"))
    faces = sorted(place.rglob("*.png"))
    if not faces or len(faces) != report["aligned"]:
        raise FacekdError(f"{len(faces)} faces, and a report of {report['aligned']}")
    digest = hashlib.sha256(json.dumps({**report, "path": "", "report": ""}).encode())
    for face in faces:
        digest.update(face.relative_to(place).as_posix().encode() + face.read_bytes())
    return digest.hexdigest()


def _packed(place: Path) -> str | None:
    from facekd.data.sources.records import RecordReader

    if not (place / "train.rec").exists():
        return None
    reader = RecordReader(place)
    if broken := list(reader.check()):
        raise FacekdError(f"{len(broken)} broken records, the first {broken[0]}")
    digest = hashlib.sha256(reader.labels.tobytes())
    for i in range(len(reader)):
        digest.update(reader.encoded(i))
    return digest.hexdigest()


def _trained(place: Path) -> str | None:
    from facekd.models.bundle import load_bundle

    return load_bundle(place / "bundle").card.sha256 if (place / "bundle").exists() else None


def _embedded(place: Path) -> str | None:
    import numpy as np

    if not (place / "e.npz").exists():
        return None
    with np.load(place / "e.npz") as file:
        if len(file["paths"]) != len(file["embeddings"]):
            raise FacekdError("not a name an embedding")
    return hashlib.sha256((place / "e.npz").read_bytes()).hexdigest()


def _evaluated(place: Path) -> str | None:
    import cv2

    report = place / "evaluation.json"
    if not report.exists():
        return None
    sets = json.loads(report.read_text(encoding="utf-8"))["sets"]
    if (place / "evaluation.png").exists() and cv2.imread(str(place / "evaluation.png")) is None:
        raise FacekdError("evaluation.png is no picture")
    figures = [(one["accuracy"], one["auc"], one["fingerprint"]) for one in sets]  # and not the seconds it took
    return hashlib.sha256(json.dumps(figures).encode()).hexdigest()


def _stored(place: Path) -> str | None:
    from facekd.distillation.teacher_cache import TeacherCache

    if not (place / "cache.json").exists():
        return None
    cache = TeacherCache(place)
    if cache.missing():
        return None
    rows, there = cache.read(0, range(cache.card.faces.images))
    if not there.all():
        raise FacekdError("a row is missing")
    return hashlib.sha256(rows["embedding"].tobytes()).hexdigest()


def _exported(place: Path) -> str | None:
    from facekd.schemas.manifest import read_manifest, verify_files

    if not (place / "manifest.json").exists():
        if place.exists() and any(place.iterdir()):
            raise FacekdError(f"an artefact without manifest: {sorted(path.name for path in place.iterdir())}")
        return None
    manifest = read_manifest(place)
    verify_files(place, manifest)
    return manifest.files[manifest.model]
