"""Which files are a model, their hash and their size: the one answer for records, caches, teachers, demo and phones."""

from dataclasses import dataclass
from pathlib import Path

from facekd.common.errors import UsageError
from facekd.common.hashing import file_sha256, text_sha256
from facekd.runtimes.base import Runtime, runtime_for
from facekd.schemas.card import CARD_FILE
from facekd.schemas.manifest import MANIFEST_FILE, read_manifest


@dataclass(frozen=True)
class ModelFiles:
    """The files of one model.

    Attributes:
        model: what a runtime opens: a file, a folder such as an .mlpackage, or a bundle.
        files: all that make it up; an .onnx file that keeps weights in another has both.
    """

    model: Path
    files: tuple[Path, ...]

    @classmethod
    def of(cls, path: Path, *, runtime: Runtime | None = None) -> "ModelFiles":
        """The files of a model file, a bundle, or an artefact's model.

        Args:
            path: its place.
            runtime: that opens it; default: the registered one.

        Raises:
            UsageError: there is nothing, or no runtime opens it.
            FacekdError: a file that belongs to it is missing or lies outside of its folder.
        """
        if (path / MANIFEST_FILE).is_file() and not (path / CARD_FILE).is_file():
            path = path / read_manifest(path).model
        if not path.exists():
            raise UsageError(f"model {path} does not exist")
        return cls(path, tuple((runtime or runtime_for(path)).files(path)))

    @property
    def size_bytes(self) -> int:
        """Of all files together."""
        return sum(file.stat().st_size for file in self.files)

    def hashes(self) -> dict[str, str]:
        """sha256 of each file, sorted by its name relative to the folder that the model is in."""
        return {file.relative_to(self.model.parent).as_posix(): file_sha256(file) for file in sorted(self.files)}

    @property
    def sha256(self) -> str:
        """Of the only file; of several, the sha256 of the lines "name sha256"."""
        hashes = self.hashes()
        if len(hashes) == 1:
            return next(iter(hashes.values()))
        return text_sha256("\n".join(f"{name} {digest}" for name, digest in sorted(hashes.items())))
