"""Opens data from a path or a short description: faces to train on, and pairs to verify."""

from collections.abc import Sequence
from pathlib import Path

from facekd.common.errors import UsageError
from facekd.common.file_kind import check_not_a_stand_in
from facekd.data.cfp import is_cfp_split, load_cfp
from facekd.data.pairs import is_pair_list, load_pairs
from facekd.data.source import ALIGNED_SIZE, Source
from facekd.data.sources import find_source, that_opens, valid_sources
from facekd.data.subset import Subset
from facekd.data.synthetic_pairs import synthetic_pairs
from facekd.data.unread import describe_file
from facekd.data.verification_bin import read_bin
from facekd.data.verification_set import VerificationSet


def open_source(
    spec: str | Path,
    *,
    size: tuple[int, int] | None = ALIGNED_SIZE,
    max_identities: int | None = None,
    min_images: int | None = None,
    max_images: int | None = None,
) -> Source:
    """Opens a source of labelled faces.

    Args:
        spec: a .rec file, a folder that holds train.rec, an index over many (.faces), a folder with one folder an
            identity, or what another kind of facekd.data.sources opens. `NAME:TEXT` chooses the kind by its name, as in
            `synthetic:identities=64,images=20,seed=0`; `package.module:Class` and `package.module:Class:TEXT` take a
            kind that is code of your own, if it is trusted.
        size: (height, width) every image must have; None admits any (to inspect or align them).
        max_identities: keep the first so many identities.
        min_images: leave out identities with fewer images.
        max_images: keep the first so many images of each identity.

    Raises:
        UsageError: nothing of the kind is there, or nothing is left.
        FacekdError: it is there and cannot be read.
    """
    source = _open(str(spec), size)
    if max_identities is None and min_images is None and max_images is None:
        return source
    return Subset.by_identity(source, max_identities=max_identities, min_images=min_images, max_images=max_images)


def _open(text: str, size: tuple[int, int] | None) -> Source:
    found = find_source(text)
    if found is not None:
        return found[0].open(found[1], size=size)
    kind = that_opens(text, catch_all=True)
    if kind is not None:
        return kind.open(text, size=size)
    path, valid = Path(text), valid_sources()
    if not path.exists():
        raise UsageError(f"no data at {path}: give {valid}")
    check_not_a_stand_in(path, "a source of faces", empty=False)
    raise UsageError(f"{path} is not a source of faces{describe_file(path)}; give {valid}")


def load_verification_set(
    path: str | Path,
    images: str | Path | None = None,
    *,
    folds: Sequence[int] | None = None,
    size: tuple[int, int] | None = ALIGNED_SIZE,
) -> VerificationSet:
    """Loads a set of pairs.

    Args:
        path: a .bin file, a list of pairs (facekd.data.pairs), the folder Protocol/Split/FP or FF of CFP, or
            `synthetic:identities=64,pairs=600,seed=0`.
        images: with pairs.txt, the folder of Name/Name_0001.jpg (or .png).
        folds: with pairs.txt, the 1-based folds to keep, for a folder that holds only some.
        size: (height, width) every image must have; None admits any.

    Raises:
        UsageError: the path or options are not valid.
        FacekdError: the file is damaged, holds what a set of pairs has no need of, or photographs are missing.
    """
    text = str(path)
    if text.startswith("synthetic:"):
        return synthetic_pairs(text.removeprefix("synthetic:"))
    path = Path(path)
    if is_cfp_split(path) and folds is None and images is None:
        return load_cfp(path, size=size)
    if not path.is_file():
        raise UsageError(
            f"no verification set at {path}: give a .bin, a list of pairs with its images, CFP's Protocol/Split/FP or "
            "synthetic:"
        )
    if is_pair_list(path):
        check_not_a_stand_in(path, "a verification set")
        if images is None:
            raise UsageError(f"{path} only names the pairs: give the folder of their images too")
        return load_pairs(path, Path(images), folds=folds, size=size)
    if folds is not None or images is not None:
        raise UsageError(f"{path} carries its own images: `images` and `folds` belong to a pairs.txt")
    return read_bin(path, size=size)
