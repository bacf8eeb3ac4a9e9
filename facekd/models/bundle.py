"""A bundle: a model as a folder of weights (safetensors), a card (JSON) and a README, loaded strictly."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from facekd.common.errors import FacekdError, UsageError, one_line
from facekd.common.hashing import file_sha256
from facekd.common.trust import check_all_trusted, names_code
from facekd.common.writing import FolderKind, atomic_folder
from facekd.models.bundle_files import FITS, check_centres, check_hash, fitting_note, read_header
from facekd.models.readme import write_readme
from facekd.models.registry import create_model, find_model
from facekd.schemas.card import (
    CARD_FILE,
    HEAD_FILE,
    WEIGHTS_FILE,
    Card,
    read_card,
)


@dataclass
class Bundle:
    """A model with its card.

    Attributes:
        model: in eval mode, float32, on the CPU.
        card: its facts.
        head_centres: class centres [n, e] of the head it was trained with, if they were kept.
        path: the folder it was loaded from.
    """

    model: nn.Module
    card: Card
    head_centres: torch.Tensor | None
    path: Path

    @torch.no_grad()
    def embed(self, images: torch.Tensor, *, flip: bool = False) -> torch.Tensor:
        """uint8 RGB images [b, 3, h, w] -> raw float32 embeddings [b, e]; with `flip`, plus the mirrored images'.

        Raises:
            UsageError: the images are not uint8 RGB of the card's size.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or tuple(images.shape[1:]) != (3, *self.card.input.size):
            height, width = self.card.input.size
            raise UsageError(
                f"{self.card.name}: images are {images.dtype} {list(images.shape)}, not uint8 [b, 3, {height}, {width}]"
            )
        parameter = next(self.model.parameters())
        x = self.card.input.normalise(images.to(parameter.device))
        embeddings = self.model(x)
        if flip:
            embeddings = embeddings + self.model(x.flip(3))
        output: torch.Tensor = embeddings.float()
        return output


def save_bundle(
    path: str | Path,
    model: nn.Module,
    card: Card,
    *,
    head_centres: torch.Tensor | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes a bundle at `path`, whole or not at all: a temporary folder beside it, synced, then renamed.

    Args:
        head_centres: [n, e]; the card's `head` must then describe the head.
        overwrite: replace a bundle that is already there. Anything else in the way is never replaced.

    Raises:
        UsageError: something is at `path` already, or centres and card do not fit.
        FacekdError: the folder cannot be written.
    """
    path = Path(path)
    if (head_centres is None) != (card.head is None):
        raise UsageError("a bundle's head centres and its card's head go together: give both or neither")
    if head_centres is not None and card.head is not None:
        expected = (card.head.num_identities, card.embedding_width)
        if tuple(head_centres.shape) != expected:
            raise UsageError(f"head centres are {tuple(head_centres.shape)}, the card says {expected}")
    model = getattr(model, "_orig_mod", model)  # torch.compile's wrapper would put its prefix into every key
    with new_folder(path, overwrite=overwrite) as folder:
        state = _plain(model.state_dict())
        save_file(state, folder / WEIGHTS_FILE, metadata=_note(card, state, folder) or None)
        card = card.model_copy(update={"sha256": file_sha256(folder / WEIGHTS_FILE)})
        if head_centres is not None and card.head is not None:
            save_file(_plain({"centres": head_centres}), folder / HEAD_FILE)
            card = card.model_copy(
                update={"head": card.head.model_copy(update={"sha256": file_sha256(folder / HEAD_FILE)})}
            )
        (folder / CARD_FILE).write_text(card.as_json(indent=2) + "\n", encoding="utf-8")
        write_readme(folder / "README.md", card)
    return path


def load_bundle(path: str | Path) -> Bundle:
    """Loads a bundle strictly: the card checked, the weights' hash compared, every key and shape matched.

    A card may name a user's own model as package.module:function. Calling it runs that code with the card's arguments,
    so it is done only for modules that FACEKD_TRUSTED_MODULES lists (facekd.common.trust).

    Raises:
        UsageError: `path` is not a bundle, or its architecture is unknown here or not trusted.
        FacekdError: it is corrupt, was changed after it was written, or is of a newer schema.
    """
    path = Path(path)
    card = read_card(path)
    check_all_trusted(card, wanted_by=f"bundle {path}")
    state = _read_weights(path / WEIGHTS_FILE, card.sha256)
    model = _build(card, state, path / WEIGHTS_FILE)
    load_strictly(model, state, source=path / WEIGHTS_FILE)
    _check_width(model, card, path)
    centres = None
    if card.head is not None:
        head_state = _read_weights(path / HEAD_FILE, card.head.sha256)
        check_centres(path, card, card.head, {key: list(value.shape) for key, value in head_state.items()})
        centres = head_state["centres"].float()
    return Bundle(model=model.eval(), card=card, head_centres=centres, path=path)


def verify_bundle(path: str | Path) -> Card:
    """Checks the card and that every file is the one it describes, and fits it; returns the card.

    The weights are hashed piece by piece, and the model is built on the meta device only: no weight is ever in memory.

    Raises:
        UsageError, FacekdError: as `load_bundle`.
    """
    path = Path(path)
    card = read_card(path)
    check_all_trusted(card, wanted_by=f"bundle {path}")
    check_hash(path / WEIGHTS_FILE, card.sha256)
    if names_code(card.architecture.name):
        find_model(card.architecture.name)
    else:
        _, shapes = read_header(path / WEIGHTS_FILE)
        state = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
        _check_width(_skeleton(card, state, path / WEIGHTS_FILE), card, path)
    if card.head is not None:
        check_hash(path / HEAD_FILE, card.head.sha256)
        check_centres(path, card, card.head, read_header(path / HEAD_FILE)[1])
    return card


def load_teacher(path: str | Path) -> Bundle:
    """`load_bundle` for a teacher.

    Raises:
        UsageError: the bundle at `path` is a student's.
    """
    card = read_card(path)
    if card.kind != "teacher":
        raise UsageError(
            f"{path} is a {card.kind}'s bundle ({card.architecture.name}), not a teacher's; train one with "
            "`facekd train` or bring one in with `facekd models import`"
        )
    return load_bundle(path)


def load_strictly(model: nn.Module, state: dict[str, torch.Tensor], *, source: Path) -> None:
    """Copies `state` into `model`, floating-point values as float32.

    Raises:
        FacekdError: keys are missing or unexpected, or a shape differs; names the first few.
    """
    _check_fits(model, state, source)
    model.load_state_dict(
        {key: value.float() if value.is_floating_point() else value for key, value in state.items()}, strict=True
    )


def _check_fits(model: nn.Module, state: dict[str, torch.Tensor], source: Path) -> None:
    own = model.state_dict()
    problems = []
    for what, keys in (("missing", own.keys() - state.keys()), ("unexpected", state.keys() - own.keys())):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            problems.append(f"{what} {', '.join(sorted(keys)[:3])}{more}")
    for key in sorted(own.keys() & state.keys()):
        if own[key].shape != state[key].shape:
            problems.append(f"{key} is {list(state[key].shape)} instead of {list(own[key].shape)}")
            break
    if problems:
        raise FacekdError(f"{source} does not fit {type(model).__name__}: {'; '.join(problems)}")


def _own_files(folder: Path) -> Callable[[str], bool] | None:
    names = (CARD_FILE, WEIGHTS_FILE, HEAD_FILE, "README.md", ".gitattributes")  # the Hub adds the last
    return names.__contains__ if (folder / CARD_FILE).is_file() else None


BUNDLE = FolderKind("a bundle", _own_files)


@contextmanager
def new_folder(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """A temporary folder that becomes the bundle `path` when the block ends well, and vanishes when it does not."""
    try:
        with atomic_folder(path, kind=BUNDLE, overwrite=overwrite, durable=True) as folder:
            yield folder
    except SafetensorError as error:
        raise FacekdError(f"cannot write a bundle at {path}: {error}") from error


def _plain(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Detached, contiguous copies on the CPU: safetensors refuses tensors that share memory."""
    return {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}


def _build(card: Card, state: dict[str, torch.Tensor], source: Path) -> nn.Module:
    """The card's architecture with fresh weights, of exactly the shapes of `state`.

    A card may come from anywhere, and a width of 10^9 in it would fill the memory before the shapes are compared: so
    the model is first built on the meta device, where tensors have a shape and no content.
    """
    name, arguments = card.architecture.name, card.architecture.arguments
    if not names_code(name):  # a trusted function is not asked to build on the meta device too
        _skeleton(card, state, source)
    with _constructor_explained(name, source):
        return create_model(name, **arguments)


def _skeleton(card: Card, state: dict[str, torch.Tensor], source: Path) -> nn.Module:
    """The card's architecture on the meta device, compared with the shapes of `state`."""
    name, arguments = card.architecture.name, card.architecture.arguments
    with _constructor_explained(name, source):
        _check_numbers(arguments, max(sum(value.numel() for value in state.values()), 2**16), source)
        with torch.device("meta"), _count_parameters(64 * len(state) + 4096, source):
            skeleton = create_model(name, **arguments)
        _check_fits(skeleton, state, source)
        _check_buffers(skeleton, source)
    return skeleton


def _check_width(model: nn.Module, card: Card, path: Path) -> None:
    if getattr(model, "embedding_width", None) != card.embedding_width:
        raise FacekdError(
            f"{path}: the card says embedding width {card.embedding_width}, its architecture "
            f"{card.architecture.name} gives {getattr(model, 'embedding_width', None)}"
        )


def _note(card: Card, state: dict[str, torch.Tensor], folder: Path) -> dict[str, str]:
    """For the metadata of the weights: that they were seen to fit the card; nothing where they do not, or may not.

    Only for models that facekd itself builds: those of others may change under the same name and version.
    """
    try:
        if not find_model(card.architecture.name).build.__module__.startswith("facekd.models."):
            return {}
        _check_width(_skeleton(card, state, folder / WEIGHTS_FILE), card, folder)
    except FacekdError:
        return {}
    return {FITS: fitting_note(card)}


@contextmanager
def _constructor_explained(name: str, source: Path) -> Iterator[None]:
    try:
        yield
    except FacekdError:
        raise
    except Exception as error:  # a stranger's arguments may break a constructor at any line
        reason = one_line(f"{type(error).__name__}: {error}", limit=200)
        raise FacekdError(f"{source.parent}: its card's arguments do not build {name} ({reason})") from error


def _check_numbers(arguments: Any, limit: int, source: Path) -> None:
    """A size or depth beyond the number of weights cannot be true, and constructors make lists of such lengths."""
    if isinstance(arguments, dict | list | tuple):
        for value in arguments.values() if isinstance(arguments, dict) else arguments:
            _check_numbers(value, limit, source)
    elif isinstance(arguments, int | float) and not abs(arguments) <= limit:
        raise FacekdError(f"{source} does not fit its card, whose arguments say {arguments:.4g}")


@contextmanager
def _count_parameters(limit: int, source: Path) -> Iterator[None]:
    """Gives up on a model of more than `limit` parameters: 10^9 empty layers fill the memory too."""
    count = 0

    def add(module: nn.Module, name: str, value: torch.Tensor | None) -> None:
        nonlocal count
        del module, name, value
        count += 1
        if count > limit:
            raise FacekdError(f"{source} does not fit its card, which describes a model of many more layers")

    hook = register_module_parameter_registration_hook(add)
    try:
        yield
    finally:
        hook.remove()


def _check_buffers(skeleton: nn.Module, source: Path) -> None:
    """Buffers that are computed, not stored (a window's relative positions), grow unseen by the comparison."""
    size, parameters = (sum(t.numel() for t in tensors) for tensors in (skeleton.buffers(), skeleton.parameters()))
    if size > parameters + 2**22:
        raise FacekdError(f"{source.parent}: its card describes a model whose buffers hold {size:,} values")


def _read_weights(file: Path, sha256: str) -> dict[str, torch.Tensor]:
    check_hash(file, sha256)
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise FacekdError(f"{file} is not a safetensors file ({error})") from error
