"""What CVLface's checkpoints have in common: the colour order that model.yaml beside them states."""

from dataclasses import replace
from pathlib import Path

import yaml

from facekd.models.layouts.base import Imported
from facekd.schemas.input_spec import InputSpec


def cvlface_input(found: Imported, source: Path) -> Imported:
    """The import with the colour order of the model.yaml beside its file: RGB where there is none.

    CVLface's model object takes RGB and flips the channels itself where model.yaml says BGR: such weights are BGR's.
    """
    file = source.parent / "model.yaml"
    try:
        config = yaml.safe_load(file.read_bytes()) if file.is_file() and file.stat().st_size < 2**20 else None
    except (OSError, yaml.YAMLError):
        config = None
    if isinstance(config, dict) and config.get("color_space") == "BGR":
        note = "trained on BGR, as model.yaml beside it says"
        return replace(found, input=InputSpec(colour="BGR"), notes=(*found.notes, note))
    return found
