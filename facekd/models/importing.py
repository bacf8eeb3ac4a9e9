"""Teachers trained elsewhere, made into bundles: by the layout of a public checkpoint, or by their description."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from facekd.common.errors import UsageError
from facekd.models.architectures.transformer import TransformerTeacher
from facekd.models.bundle import load_strictly, save_bundle
from facekd.models.checkpoint import read_checkpoint
from facekd.models.describe import describe
from facekd.models.layouts.base import Asked, Centres, Imported
from facekd.models.layouts.recognise import check_layout_name, find_layout
from facekd.models.registry import Backbone, create_model
from facekd.models.teacher_description import described, read_description, stated_metrics, stated_notes
from facekd.schemas.card import HeadCard
from facekd.schemas.input_spec import StatedInput


def import_teacher(
    weights: str | Path,
    out: str | Path,
    *,
    description: str | Path | None = None,
    layout: str | None = None,
    key: str | None = None,
    heads: int | None = None,
    image_size: int | None = None,
    stated: StatedInput | None = None,
    head_scale: float | None = None,
    head_margin: float | None = None,
    labels: str | None = None,
    num_identities: int | None = None,
    name: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Reads a teacher's weights strictly and writes them as a teacher bundle in float32.

    The bundle takes RGB whatever the checkpoint was trained on: the first convolution of one trained on BGR has its
    input channels exchanged, which gives the same embeddings. Mean and deviation stand in the bundle's card.

    Args:
        weights: a checkpoint that `facekd.models.checkpoint.read_checkpoint` opens.
        out: the bundle's folder.
        description: a JSON file like swin_teacher.json: body class and arguments, input, centres.
        layout: a name of `facekd.models.layouts.base.LAYOUTS`, or timm/NAME, to insist on; default: recognised.
        key: of the weights in a file that holds several, as `read_checkpoint` takes it.
        heads: of the attention, where neither shapes nor the known sizes of the layout tell them.
        image_size: side of the images in pixels, where the file does not tell it; default: 112.
        stated: colour order, mean and deviation that it was trained with; what is not said is the layout's.
        head_scale: s of the centres' head; default: what the description or the layout says.
        head_margin: its margin; default: what the description or the layout says.
        labels: fingerprint of the data whose label order the centres have.
        num_identities: of that data; must then be the number of centres.
        name: the bundle's name; default: the weights file's.
        overwrite: replace a bundle at `out`.

    Raises:
        UsageError: a path, description or layout is not valid, or something has to be said that the file does not say.
        FacekdError: the weights do not fit.
    """
    weights = Path(weights)
    if description is not None and layout is not None:
        raise UsageError("give either a description or a layout, not both")
    if layout is not None:
        check_layout_name(layout)  # before a large file is read
    facts = read_description(Path(description)) if description is not None else None
    checkpoint = read_checkpoint(weights, key)
    if facts is not None:
        found = described(facts, checkpoint.tensors, weights)
        said: tuple[str, ...] = ()
    else:
        asked = Asked(heads=heads, image_size=image_size)
        chosen = find_layout(checkpoint, layout, asked)
        found = chosen.network()
        said = (f"imported as {chosen.title} ({chosen.name})", *found.notes, *checkpoint.notes)
        found, turned = _as_rgb(found, stated or StatedInput())
        said = (*said, *turned)
    if found.centres is None and (labels is not None or num_identities is not None):
        raise UsageError(f"{weights} comes without class centres, so there is no label order to name")
    model = create_model(found.architecture, **found.arguments)
    load_strictly(model, found.state, source=weights)
    if not isinstance(model, TransformerTeacher | Backbone):
        raise UsageError(f"{found.architecture} is not a teacher")
    head, centres, head_notes = _head(
        found.centres, weights, head_scale, head_margin, labels, num_identities, facts is not None
    )
    card = describe(
        model,
        kind="teacher",
        name=name or weights.stem,
        architecture=found.architecture,
        arguments=found.arguments,
        input_spec=found.input,
        training={"imported_from": weights.name},
        metrics=stated_metrics(facts) if facts is not None else [],
        head=head,
        notes=stated_notes(facts) if facts is not None else "\n".join((*said, *head_notes)),
    )
    return save_bundle(out, model, card, head_centres=centres, overwrite=overwrite)


def _as_rgb(found: Imported, stated: StatedInput) -> tuple[Imported, tuple[str, ...]]:
    """The same network for RGB images: its first convolution's input channels in reverse, and mean and std too."""
    given: dict[str, Any] = {part: value for part in ("colour", "mean", "std") if (value := stated.stated.get(part))}
    found = replace(found, input=found.input.model_copy(update=given))
    if found.input.colour == "RGB":
        return found, ()
    first = next(
        name
        for name in ("stem.conv.weight", "body.patch_embed.proj.weight", "body.stem.0.weight")
        if name in found.state
    )
    state = found.state | {first: found.state[first].flip(1)}
    spec = found.input.model_copy(
        update={"colour": "RGB", "mean": found.input.mean[::-1], "std": found.input.std[::-1]}
    )
    return replace(found, state=state, input=spec), ("trained on BGR: its first convolution was turned to take RGB",)


def _head(
    centres: Centres | None,
    source: Path,
    scale: float | None,
    margin: float | None,
    labels: str | None,
    num_identities: int | None,
    described_: bool,
) -> tuple[HeadCard | None, torch.Tensor | None, tuple[str, ...]]:
    """The card and the class centres of its margin head, and what was assumed."""
    if centres is None:
        return None, None, ()
    count = len(centres.tensor)
    if num_identities not in (None, count):
        raise UsageError(f"{source} has {count} class centres, the labelled data {num_identities} identities")
    arguments = dict(centres.arguments)
    arguments |= {key: value for key, value in (("scale", scale), ("margin", margin)) if value is not None}
    if arguments.keys() != {"scale", "margin"}:
        raise UsageError(
            "the description does not say the head's scale and margin: give --head-scale and --head-margin"
        )
    head = HeadCard(name=centres.head, arguments=arguments, num_identities=count, labels=labels)
    note = f"class centres of {count} identities, {centres.head} with scale {arguments['scale']:g} and margin"
    assumed = "" if described_ or (scale is not None and margin is not None) else " (--head-scale, --head-margin)"
    return head, centres.tensor.float().contiguous(), (f"{note} {arguments['margin']:g}{assumed}",)
