"""`facekd info` reads a card at once, and says what `facekd embed` would refuse."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from facekd.common.errors import FacekdError
from facekd.common.hashing import file_sha256
from facekd.models.bundle import load_bundle, save_bundle, verify_bundle
from facekd.models.bundle_files import verified_by_note
from facekd.models.describe import describe
from facekd.models.registry import create_model

ARGUMENTS: dict[str, Any] = {"scale": 0.25, "blocks": [1, 1, 1, 1], "embedding_width": 16, "feature_channels": 32}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    model = create_model("mobilefacenet", **ARGUMENTS)
    card = describe(model, kind="student", name="tiny", architecture="mobilefacenet", arguments=ARGUMENTS)
    return save_bundle(tmp_path / "bundle", model, card)


def edited(bundle: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    card = json.loads((bundle / "card.json").read_text())
    change(card)
    (bundle / "card.json").write_text(json.dumps(card))
    return bundle


def reweighted(bundle: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    """Other weights, without the note, the card's hash adjusted as an attacker would."""
    state = load_file(bundle / "model.safetensors")
    change(state)
    save_file(state, bundle / "model.safetensors")
    return edited(bundle, lambda card: card.update(sha256=file_sha256(bundle / "model.safetensors")))


REFUSED: dict[str, Callable[[Path], Path]] = {
    "another width": lambda bundle: edited(bundle, lambda card: card.update(embedding_width=32)),
    "other arguments": lambda bundle: edited(bundle, lambda card: card["architecture"]["arguments"].update(scale=0.5)),
    "an unknown argument": lambda bundle: edited(bundle, lambda card: card["architecture"]["arguments"].update(x=1)),
    "an unknown model": lambda bundle: edited(bundle, lambda card: card["architecture"].update(name="nonesuch")),
    "code": lambda bundle: edited(bundle, lambda card: card["architecture"].update(name="os:system")),
    "a newer schema": lambda bundle: edited(bundle, lambda card: card.update(schema_version=9)),
    "another hash": lambda bundle: edited(bundle, lambda card: card.update(sha256="0" * 64)),
    "a tensor too few": lambda bundle: reweighted(bundle, lambda state: state.pop(sorted(state)[0])),
    "a head that is not there": lambda bundle: edited(
        bundle, lambda card: card.update(head={"name": "cosface", "num_identities": 3, "sha256": "0" * 64})
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_loaded_is_not_called_verified(bundle: Path, what: str) -> None:
    """Seen: "(sha256 verified)" of cards that embed refuses."""
    folder = REFUSED[what](bundle)
    with pytest.raises(FacekdError) as loading:
        load_bundle(folder)
    with pytest.raises(FacekdError) as verifying:
        if verified_by_note(folder) is None:
            verify_bundle(folder)
    assert str(verifying.value) == str(loading.value)


def test_what_loads_is_verified_with_and_without_the_note(bundle: Path) -> None:
    card = verified_by_note(bundle)
    assert card is not None and card.name == "tiny"
    assert verify_bundle(bundle) == card
    reweighted(bundle, lambda state: None)
    assert verified_by_note(bundle) is None  # no note: it has to be built
    assert verify_bundle(bundle).name == load_bundle(bundle).card.name


def test_weights_that_do_not_fit_get_no_note(tmp_path: Path) -> None:
    model = create_model("mobilefacenet", **ARGUMENTS)
    wrong = {**ARGUMENTS, "embedding_width": 32}
    card = describe(model, kind="student", name="tiny", architecture="mobilefacenet", arguments=wrong)
    save_bundle(tmp_path / "bundle", model, card)
    assert verified_by_note(tmp_path / "bundle") is None
    with pytest.raises(FacekdError, match="does not fit"):
        verify_bundle(tmp_path / "bundle")


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
def test_a_card_is_shown_without_torch_in_little_memory(bundle: Path) -> None:
    """Seen: 5 s and 650 MiB to print a card. Measured: 0.3 s of CPU and 50 MiB, of which NumPy is 0.1 s and 26 MiB."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom facekd.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "peak = Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]\n"
        "print('torch' in sys.modules, int(peak) // 1024, file=sys.stderr)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, "info", str(bundle)], capture_output=True, text=True, timeout=60, check=True
    )
    assert "tiny (sha256 verified)" in ran.stdout
    torch_loaded, mebibytes = ran.stderr.split()
    assert torch_loaded == "False"
    assert int(mebibytes) < 120
