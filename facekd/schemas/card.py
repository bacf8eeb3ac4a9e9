"""The card of a bundle: every fact about a model that its weights do not say, as a versioned, checked schema."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from facekd.common.errors import UsageError
from facekd.common.trust import NamesCode
from facekd.common.validation import StrictSchema
from facekd.schemas.calibration import Calibration
from facekd.schemas.input_spec import InputSpec
from facekd.schemas.reading import read_versioned

SCHEMA_VERSION = 1
CARD_FILE = "card.json"
WEIGHTS_FILE = "model.safetensors"
HEAD_FILE = "head.safetensors"


class Architecture(StrictSchema):
    """How `create_model` builds the module: its name and arguments."""

    name: Annotated[str, NamesCode()]
    arguments: dict[str, Any] = Field(default_factory=dict)


class Metric(StrictSchema):
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


class Threshold(StrictSchema):
    """Cosine above which two faces count as one person, chosen for a false accept rate measured on a data set."""

    far: float
    threshold_cos: float
    dataset: str


class HeadCard(StrictSchema):
    """The margin head whose centres lie in head.safetensors.

    Attributes:
        labels: fingerprint of the data whose label order the centres have; None if it was not given.
        sha256: of head.safetensors.
    """

    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    num_identities: int = Field(ge=1, le=10**9)
    labels: str | None = None
    sha256: str = ""


class Card(StrictSchema):
    """A bundle's card.

    Attributes:
        embedding_width: e.
        parameters: number of parameters.
        macs: multiply-accumulates for one image of the input's size.
        created: UTC, ISO 8601.
        training: data {name, fingerprint, images, identities}, recipe, seed, steps and whatever else the run knows.
        teacher: {name, sha256} of the teacher it was distilled from.
        calibration: thresholds for rates as low as a gallery needs, measured on faces with identities.
        versions: of the packages it was made with.
        sha256: of model.safetensors.
    """

    schema_version: Literal[1] = 1
    kind: Literal["student", "teacher"]
    name: str
    architecture: Architecture
    input: InputSpec = InputSpec()
    embedding_width: int = Field(ge=1, le=2**20)
    parameters: int
    macs: int
    created: str
    facekd_version: str
    training: dict[str, Any] | None = None
    teacher: dict[str, Any] | None = None
    metrics: list[Metric] = Field(default_factory=list)
    thresholds: list[Threshold] = Field(default_factory=list)
    calibration: Calibration | None = None
    head: HeadCard | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    notes: str | None = None
    sha256: str = ""


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
    return read_versioned(
        file, Card, newest=SCHEMA_VERSION, what="a bundle's card", advice="restore the bundle from its source"
    )
