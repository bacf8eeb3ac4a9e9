"""A bundle's files checked without building its model, and so without torch: hashes, headers, and a note of what fits.

Building a model takes seconds and hundreds of megabytes. So whoever writes a bundle builds it once, without weights,
and if the weights fit, notes in their file the sha256 of all that decides about their shapes. The card holds the
sha256 of that file. A card that was edited afterwards no longer agrees with the note: then the model has to be built.
"""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from facekd.common.errors import FacekdError
from facekd.common.file_kind import check_not_a_stand_in
from facekd.common.hashing import file_sha256, parts_sha256
from facekd.common.trust import check_all_trusted
from facekd.common.validation import shown
from facekd.common.versions import package_versions
from facekd.schemas.card import HEAD_FILE, WEIGHTS_FILE, Card, HeadCard, read_card

FITS = "facekd_fits"
"""The note's name in the metadata of a safetensors file."""


def fitting_note(card: Card) -> str:
    """The sha256 of what decides about a model's shapes: its architecture, width, and the packages that build it."""
    versions = package_versions("facekd", "timm")
    return parts_sha256(
        "fits 1", card.architecture.as_json(), str(card.embedding_width), *(f"{k} {v}" for k, v in versions.items())
    )


def verified_by_note(path: str | Path) -> Card | None:
    """The card of a bundle whose files are those that it describes, and whose weights were seen to fit when written.

    Returns:
        None where there is no such note, or it is of another architecture or version: `verify_bundle` must tell.

    Raises:
        UsageError, FacekdError: as `facekd.models.bundle.load_bundle`.
    """
    path = Path(path)
    card = read_card(path)
    check_all_trusted(card, wanted_by=f"bundle {path}")
    check_hash(path / WEIGHTS_FILE, card.sha256)
    note, _ = read_header(path / WEIGHTS_FILE)
    if card.head is not None:
        check_hash(path / HEAD_FILE, card.head.sha256)
        check_centres(path, card, card.head, read_header(path / HEAD_FILE)[1])
    return card if note == fitting_note(card) else None


def read_header(file: Path) -> tuple[str | None, dict[str, list[int]]]:
    """The note of a safetensors file, if it has one, and the shape of each tensor; no tensor is read.

    Raises:
        FacekdError: it is no such file.
    """
    try:
        with safe_open(file, framework="np") as opened:
            shapes = {key: list(opened.get_slice(key).get_shape()) for key in list(opened.keys())}
            return (opened.metadata() or {}).get(FITS), shapes
    except (SafetensorError, OSError) as error:
        raise FacekdError(f"{file} is not a safetensors file ({error})") from error


def check_centres(path: Path, card: Card, head: HeadCard, shapes: dict[str, list[int]]) -> None:
    """Refuses head.safetensors unless it holds the class centres [n, e] of the card, and nothing else."""
    expected = [head.num_identities, card.embedding_width]
    if shapes != {"centres": expected}:
        raise FacekdError(f"{path / HEAD_FILE} holds {shown(shapes)}, not centres of {expected}")


def check_hash(file: Path, sha256: str) -> None:
    """Refuses a file that is missing, or is another than the card describes."""
    if not file.is_file():
        raise FacekdError(f"{file} is missing: the bundle is incomplete; restore it from its source")
    found = file_sha256(file)
    if found != sha256:
        check_not_a_stand_in(file, "the weights of a bundle", empty=False)
        raise FacekdError(
            f"{file} is not what its card describes: sha256 {found[:12]}..., the card says "
            f"{sha256[:12] or 'nothing'}...; it was changed or damaged, restore the bundle from its source"
        )
