"""The card of a bundle: every fact about a model that its weights do not say, as a versioned, checked schema."""

import json
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

import facekd
from facekd.common.errors import FacekdError, UsageError
from facekd.common.trust import NamesCode
from facekd.input_spec import InputSpec
from facekd.models.counting import count_macs, count_parameters

SCHEMA_VERSION = 1
CARD_FILE = "card.json"
WEIGHTS_FILE = "model.safetensors"
HEAD_FILE = "head.safetensors"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Architecture(_Strict):
    """How `create_model` builds the module: its name and arguments."""

    name: Annotated[str, NamesCode()]
    arguments: dict[str, Any] = Field(default_factory=dict)


class Metric(_Strict):
    """One measured number.

    Attributes:
        dataset: name of the evaluation set.
        protocol: how it was measured, in words or by name.
        name: what the value is: "accuracy", "tar", ...
        value: a fraction, not per cent.
        std: standard deviation over folds or seeds.
        far: the false accept rate the value holds at.
        fingerprint: sha256 of the evaluation set.
    """

    dataset: str
    protocol: str
    name: str
    value: float
    std: float | None = None
    far: float | None = None
    fingerprint: str | None = None


class Threshold(_Strict):
    """Cosine above which two faces count as one person, chosen for a false accept rate measured on a data set."""

    far: float
    threshold_cos: float
    dataset: str


class HeadCard(_Strict):
    """The margin head whose centres lie in head.safetensors.

    Attributes:
        labels: fingerprint of the data whose label order the centres have; None if it was not given.
        sha256: of head.safetensors.
    """

    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    num_identities: int
    labels: str | None = None
    sha256: str = ""


class Card(_Strict):
    """A bundle's card.

    Attributes:
        embedding_width: e.
        parameters: number of parameters.
        macs: multiply-accumulates for one image of the input's size.
        created: UTC, ISO 8601.
        training: data {name, fingerprint, images, identities}, recipe, seed, steps and whatever else the run knows.
        teacher: {name, sha256} of the teacher it was distilled from.
        versions: of the packages it was made with.
        sha256: of model.safetensors.
    """

    schema_version: Literal[1] = 1
    kind: Literal["student", "teacher"]
    name: str
    architecture: Architecture
    input: InputSpec = InputSpec()
    embedding_width: int
    parameters: int
    macs: int
    created: str
    facekd_version: str
    training: dict[str, Any] | None = None
    teacher: dict[str, Any] | None = None
    metrics: list[Metric] = Field(default_factory=list)
    thresholds: list[Threshold] = Field(default_factory=list)
    head: HeadCard | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    notes: str | None = None
    sha256: str = ""


def describe(
    model: nn.Module,
    *,
    kind: Literal["student", "teacher"],
    name: str,
    architecture: str,
    arguments: dict[str, Any] | None = None,
    input_spec: InputSpec | None = None,
    **facts: Any,
) -> Card:
    """A card for `model`, with counts, date and versions filled in.

    Args:
        architecture: the name `create_model` built the model with, and its `arguments`.
        facts: further fields of `Card`: training, teacher, metrics, thresholds, head, notes.
    """
    spec = input_spec or InputSpec()
    return Card(
        kind=kind,
        name=name,
        architecture=Architecture(name=architecture, arguments=arguments or {}),
        input=spec,
        embedding_width=int(model.embedding_width),  # type: ignore[arg-type]
        parameters=count_parameters(model),
        macs=count_macs(model, (3, *spec.size)),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        facekd_version=facekd.__version__,
        versions=package_versions(),
        **facts,
    )


def read_card(path: str | Path) -> Card:
    """Reads and checks the card of the bundle folder `path`, without its weights.

    Raises:
        UsageError: there is nothing at `path`, or it is not a bundle.
        FacekdError: the card is corrupt or of a newer schema.
    """
    folder = Path(path)
    if not folder.exists():
        raise UsageError(f"no bundle at {folder}: there is no such folder")
    file = folder / CARD_FILE
    if not folder.is_dir() or not file.is_file():
        what = "a file" if folder.is_file() else f"a folder without {CARD_FILE}"
        if (folder / "manifest.json").is_file():
            what = "an exported artefact"
        raise UsageError(
            f"{folder} is not a bundle but {what}; a bundle is a folder with {WEIGHTS_FILE} and {CARD_FILE}"
        )
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no text, no JSON, a number of a million digits, a thousand brackets
        raise FacekdError(f"{file} is not valid JSON ({error}); restore the bundle from its source") from error
    schema = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(schema, int) and schema > SCHEMA_VERSION:
        raise FacekdError(
            f"{file} has schema version {schema}, this facekd {facekd.__version__} reads up to {SCHEMA_VERSION}; "
            "upgrade facekd"
        )
    try:
        return Card.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the whole"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise FacekdError(f"{file} is not a bundle's card: {field}: {first['msg']}{more}") from error


def package_versions(names: tuple[str, ...] = ("torch", "timm", "numpy", "safetensors")) -> dict[str, str]:
    """Installed versions of the packages that decide what a model computes."""
    versions = {}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
