"""Files cut short: a record file at every 1/50 of its length, with and without its index, and every other kind."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from facekd.common.errors import FacekdError
from tests.faults.children import run_child
from tests.faults.mutation import CANARY, LIMIT_S, Verdict
from tests.faults.targets import Target, plain


@dataclass
class Cuts:
    """What became of a file's beginnings.

    Attributes:
        verdict: how each was read.
        images: images that a cut record file still gave, over all cuts; each was the one that was packed.
    """

    verdict: Verdict = field(default_factory=Verdict)
    images: int = 0


def cut(target: Target, scratch: Path, *, parts: int = 50, indexed: bool = True) -> Cuts:
    """Reads the first 0, 1/parts, 2/parts ... of a target's file."""
    work = scratch / f"{plain(target.name)}-{indexed}"
    shutil.copytree(target.folder, work)
    if not indexed:
        (work / "train.idx").unlink()
    path = work / target.file
    whole = path.read_bytes()
    original = _pictures(target.folder) if target.name == "record file" else {}
    found = Cuts()
    for part in range(parts):
        path.write_bytes(whole[: len(whole) * part // parts])
        target.seal(work)
        what = f"{target.name}, first {part}/{parts}"
        ended = run_child(lambda: target.read(work), limit_s=LIMIT_S, inside=work)
        found.verdict.add(what, ended, scratch / CANARY)
        if original and ended.how == "done":
            kept = _pictures(work)
            found.images += len(kept)
            if any(original.get(key) != picture for key, picture in kept.items()):
                found.verdict.findings.append(f"{what}: an image is not the one that was packed")
    return found


def _pictures(folder: Path) -> dict[str, bytes]:
    """Key -> decoded pixels of every image that can be read."""
    from facekd.data.source import UnreadableImage
    from facekd.data.sources.records import RecordReader

    try:
        reader = RecordReader(folder)
    except FacekdError:
        return {}
    pictures = {}
    for i in range(len(reader)):
        try:
            pictures[reader.key(i)] = reader.read(i).tobytes()
        except UnreadableImage:
            continue
    return pictures
