"""Which layout a checkpoint has: by its names and shapes, or as the user says."""

from dataclasses import replace

from facekd.common.errors import FacekdError, UsageError
from facekd.common.text import plain
from facekd.models.architectures.timm_student import check_timm_name
from facekd.models.checkpoint import Checkpoint, Reading
from facekd.models.layouts.base import LAYOUTS, Asked, Layout
from facekd.models.layouts.timm_saves import TimmByName
from facekd.models.layouts.unsupported import find_unsupported


def check_layout_name(name: str) -> None:
    """Raises UsageError unless there is a layout, or for timm/NAME a model of timm, of that name."""
    if name.startswith("timm/"):
        check_timm_name(name.removeprefix("timm/"))
    else:
        LAYOUTS.find(name)


def find_layout(checkpoint: Checkpoint, name: str | None, asked: Asked) -> Layout:
    """The layout of a checkpoint, with the reading of its names that fits.

    Args:
        name: a layout's name or timm/NAME, which is then insisted on; None recognises it.

    Raises:
        UsageError: the layout is unknown, or several fit.
        FacekdError: none fits, or it is a network that cannot be imported.
    """
    if name is not None:
        return _insisted(checkpoint, name, asked)
    fitting: dict[str, tuple[type[Layout], Reading]] = {}
    for reading in reversed(checkpoint.readings):
        for one in LAYOUTS.names():
            layout = LAYOUTS.find(one)
            if one not in fitting and layout.fits(checkpoint, reading):
                fitting[one] = layout, reading
    _refuse_unsupported(checkpoint, fitted=bool(fitting))
    if len(fitting) > 1:
        raise UsageError(
            f"{checkpoint.path} fits several layouts, {' and '.join(fitting)}, whose names are the same: "
            "say which with --layout"
        )
    if not fitting:
        raise _unknown(checkpoint)
    ((layout, reading),) = fitting.values()
    return layout(checkpoint, reading, asked)


def _insisted(checkpoint: Checkpoint, name: str, asked: Asked) -> Layout:
    if name.startswith("timm/"):
        layout: type[Layout] = TimmByName
        asked = replace(asked, model=name.removeprefix("timm/"))
    else:
        layout = LAYOUTS.find(name)
    asked = replace(asked, layout=True)
    readings = [one for one in reversed(checkpoint.readings) if not layout.lacks(one.tensors)]
    reading = readings[0] if readings else checkpoint.readings[-1]
    missing, contradiction = layout.lacks(reading.tensors), layout.contradicted_by(reading.tensors)
    if missing or contradiction:
        _refuse_unsupported(checkpoint, fitted=False)
    if missing:
        raise FacekdError(
            f"{checkpoint.path} is not {layout.title} checkpoint: it has no {', '.join(missing[:3])}; "
            f"{_its_names(reading)}"
        )
    if contradiction:
        found, why = contradiction
        raise FacekdError(f"{checkpoint.path} is not {layout.title} checkpoint: it has {plain(found)} ({why})")
    return layout(checkpoint, reading, asked)


def _refuse_unsupported(checkpoint: Checkpoint, *, fitted: bool) -> None:
    names = {name for reading in checkpoint.readings for name in (*reading.tensors, *reading.beside)}
    found = None if fitted else find_unsupported(names)
    if found is not None:
        raise FacekdError(f"{checkpoint.path} is {found.name}, which cannot be imported: {found.why}")


def _unknown(checkpoint: Checkpoint) -> FacekdError:
    """Names what was found, and the layout that comes nearest with what differs."""
    reading = checkpoint.readings[-1]
    nearest: tuple[float, str] | None = None
    for name in LAYOUTS.names():
        layout = LAYOUTS.find(name)
        missing, contradiction = layout.lacks(reading.tensors), layout.contradicted_by(reading.tensors)
        share = 1 - len(missing) / max(len(layout.needs), 1) - (0.5 if contradiction else 0)
        if share > 0 and (nearest is None or share > nearest[0]):
            what = f"it has no {', '.join(missing[:3])}" if missing else ""
            if contradiction and not missing:
                what = f"it has {plain(contradiction[0])} ({contradiction[1]})"
            nearest = share, f"the nearest is {name}, but {what or 'its shapes differ'}"
    advice = nearest[1] if nearest else f"known: {', '.join(LAYOUTS.names())}"
    return FacekdError(f"{checkpoint.path} has no layout that facekd knows: {_its_names(reading)}; {advice}")


def _its_names(reading: Reading) -> str:
    return "its names begin with " + ", ".join(plain(name) for name in list(reading.tensors)[:3])
