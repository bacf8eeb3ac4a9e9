"""Bundles: what is saved is what is loaded, whole or not at all; anything else is a one-line error."""

import json
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import facekd.models.bundle as bundle_module
from facekd.common.errors import FacekdError, UsageError
from facekd.common.hashing import file_sha256
from facekd.models.bundle import Bundle, load_bundle, load_teacher, save_bundle, verify_bundle
from facekd.models.describe import describe
from facekd.models.registry import create_model
from facekd.schemas.card import HeadCard, Metric, Threshold, read_card
from facekd.schemas.input_spec import InputSpec

ARGUMENTS = {"scale": 0.25, "blocks": [1, 1, 1, 1], "embedding_width": 16, "feature_channels": 32}


def make(path: Path, *, head: bool = True, overwrite: bool = False, seed: int = 0) -> torch.nn.Module:
    """Saves a small student with every field of its card filled, and returns the model."""
    torch.manual_seed(seed)
    model = create_model("mobilefacenet", **ARGUMENTS)
    for module in model.modules():  # statistics that differ from their initial values
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.normal_(module.running_mean)  # type: ignore[arg-type]
            torch.nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]
    card = describe(
        model,
        kind="student",
        name="tiny",
        architecture="mobilefacenet",
        arguments=ARGUMENTS,
        input_spec=InputSpec(std=(128.0, 128.0, 128.0)),
        training={"data": {"name": "faces", "fingerprint": "f" * 64, "images": 1200, "identities": 3}, "seed": 7},
        teacher={"name": "swin", "sha256": "a" * 64},
        metrics=[Metric(dataset="lfw", protocol="10-fold", name="accuracy", value=0.9, std=0.01)],
        thresholds=[Threshold(far=1e-3, threshold_cos=0.31, dataset="lfw_dev")],
        head=HeadCard(name="arcface", arguments={"margin": 0.5}, num_identities=3) if head else None,
        notes="for tests",
    )
    save_bundle(path, model, card, head_centres=torch.randn(3, 16) if head else None, overwrite=overwrite)
    return model


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    make(tmp_path / "bundle")
    return tmp_path / "bundle"


def test_round_trip_is_bit_for_bit(tmp_path: Path) -> None:
    model = make(tmp_path / "deep" / "bundle").eval()
    bundle = load_bundle(tmp_path / "deep" / "bundle")
    assert not bundle.model.training
    assert {k: v.tolist() for k, v in bundle.model.state_dict().items()} == {
        k: v.tolist() for k, v in model.state_dict().items()
    }
    images = torch.randint(0, 256, (3, 3, 112, 112), dtype=torch.uint8)
    x = (images.float() - 127.5) / 128
    with torch.no_grad():
        assert torch.equal(bundle.embed(images), model(x))
        assert torch.equal(bundle.embed(images, flip=True), model(x) + model(x.flip(3)))
    assert bundle.head_centres is not None and bundle.head_centres.shape == (3, 16)
    assert not bundle.embed(images).requires_grad


def test_the_folder_and_its_card(saved: Path) -> None:
    assert sorted(p.name for p in saved.iterdir()) == [
        "README.md",
        "card.json",
        "head.safetensors",
        "model.safetensors",
    ]
    assert sorted(p.name for p in saved.parent.iterdir()) == ["bundle"]  # no temporary folder stays
    card = verify_bundle(saved)
    assert card.sha256 == file_sha256(saved / "model.safetensors")
    assert card.head is not None and card.head.sha256 == file_sha256(saved / "head.safetensors")
    state = load_file(saved / "model.safetensors")
    assert card.parameters == sum(v.numel() for k, v in state.items() if "running" not in k and "num_batches" not in k)
    assert card.versions["torch"] == torch.__version__.split("+")[0] or card.versions["torch"] == torch.__version__
    assert json.loads((saved / "card.json").read_text())["schema_version"] == 1


def test_readme_tells_people_what_the_card_says(saved: Path) -> None:
    text = (saved / "README.md").read_text(encoding="utf-8")
    card = read_card(saved)
    for fact in (
        "# tiny",
        f"{card.parameters:,}",
        f"{card.macs:,}",
        "(pixel - 127.5) / 128",
        "faces, 1,200 images, 3 identities",
        "0.9000 ± 0.0100",
        "| 0.001 | 0.3100 | lfw_dev |",
        card.sha256,
        "for tests",
        "informed consent",
    ):
        assert fact in text


def test_weights_stored_as_float16_are_computed_in_float32(saved: Path) -> None:
    state = {k: v.half() if v.is_floating_point() else v for k, v in load_file(saved / "model.safetensors").items()}
    save_file(state, saved / "model.safetensors")
    edit(saved, lambda card: card.update(sha256=file_sha256(saved / "model.safetensors")))
    bundle = load_bundle(saved)
    assert {p.dtype for p in bundle.model.parameters()} == {torch.float32}
    assert torch.equal(bundle.model.get_parameter("stem.conv.weight"), state["stem.conv.weight"].float())


def test_a_compiled_model_is_saved_under_its_own_keys(tmp_path: Path) -> None:
    model = make(tmp_path / "plain", head=False)
    compiled: Any = torch.compile(model)
    save_bundle(tmp_path / "compiled", compiled, read_card(tmp_path / "plain"))
    assert set(load_file(tmp_path / "compiled" / "model.safetensors")) == set(model.state_dict())
    load_bundle(tmp_path / "compiled")


def test_overwriting_is_asked_for_and_only_replaces_bundles(tmp_path: Path) -> None:
    make(tmp_path / "bundle")
    before = read_card(tmp_path / "bundle").sha256
    with pytest.raises(UsageError, match="already holds a bundle"):
        make(tmp_path / "bundle", seed=1)
    assert read_card(tmp_path / "bundle").sha256 == before
    make(tmp_path / "bundle", seed=1, head=False, overwrite=True)
    assert verify_bundle(tmp_path / "bundle").sha256 != before
    assert not (tmp_path / "bundle" / "head.safetensors").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]

    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("words")
    with pytest.raises(UsageError, match="exists and is not a bundle"):
        make(tmp_path / "precious", overwrite=True)
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "words"
    (tmp_path / "empty").mkdir()
    make(tmp_path / "empty")


def test_a_write_that_fails_leaves_the_old_bundle_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "bundle")
    before = {p.name: p.read_bytes() for p in (tmp_path / "bundle").iterdir()}

    def disk_full(*arguments: object, **_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle_module, "save_file", disk_full)
    with pytest.raises(FacekdError, match="No space left on device"):
        make(tmp_path / "bundle", seed=1, overwrite=True)
    monkeypatch.undo()
    monkeypatch.setattr(bundle_module, "write_readme", disk_full)
    with pytest.raises(FacekdError, match="cannot write a bundle at"):
        make(tmp_path / "bundle", seed=1, overwrite=True)
    assert {p.name: p.read_bytes() for p in (tmp_path / "bundle").iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


def test_no_place_to_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FacekdError, match="cannot write a bundle at"):
        make(tmp_path / "file" / "bundle")


def test_centres_and_card_go_together(tmp_path: Path) -> None:
    model = create_model("mobilefacenet", **ARGUMENTS)
    arguments: dict[str, Any] = {
        "kind": "student",
        "name": "x",
        "architecture": "mobilefacenet",
        "arguments": ARGUMENTS,
    }
    with pytest.raises(UsageError, match="go together"):
        save_bundle(tmp_path / "a", model, describe(model, **arguments), head_centres=torch.zeros(3, 16))
    card = describe(model, **arguments, head=HeadCard(name="arcface", num_identities=4))
    with pytest.raises(UsageError, match=r"\(3, 16\), the card says \(4, 16\)"):
        save_bundle(tmp_path / "a", model, card, head_centres=torch.zeros(3, 16))
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(1, 3, 112, 112),
        torch.zeros(1, 3, 96, 112, dtype=torch.uint8),
        torch.zeros(1, 1, 112, 112, dtype=torch.uint8),
        torch.zeros(3, 112, 112, dtype=torch.uint8),
    ],
)
def test_embed_refuses_what_is_not_its_input(saved: Path, images: torch.Tensor) -> None:
    with pytest.raises(UsageError, match=r"not uint8 \[b, 3, 112, 112\]"):
        load_bundle(saved).embed(images)


def edit(path: Path, change: Callable[[dict], object]) -> None:
    """Changes the card's JSON."""
    card = json.loads((path / "card.json").read_text())
    change(card)
    (path / "card.json").write_text(json.dumps(card))


def rewrite(path: Path, change: Callable[[dict], object]) -> None:
    """Changes the weights and gives the card their new hash: damage that only the strict load can see."""
    state = load_file(path / "model.safetensors")
    change(state)
    save_file(state, path / "model.safetensors")
    edit(path, lambda card: card.update(sha256=file_sha256(path / "model.safetensors")))


def build(path: Path, name: str = "mobilefacenet", **arguments: object) -> None:
    """Makes the card describe another model."""
    own = ARGUMENTS if name == "mobilefacenet" else {}
    edit(path, lambda card: card.update(architecture={"name": name, "arguments": own | arguments}))


def garbage(path: Path) -> None:
    """Weights that are no safetensors file, with a matching hash."""
    (path / "model.safetensors").write_bytes(b"not weights")
    edit(path, lambda card: card.update(sha256=file_sha256(path / "model.safetensors")))


def flip_bit(file: Path) -> None:
    """Damages one byte in the middle of the file."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


DAMAGE = [
    ("no folder", shutil.rmtree, UsageError, "there is no such folder"),
    (
        "card missing",
        lambda p: (p / "card.json").unlink(),
        UsageError,
        "is not a bundle but a folder without card.json",
    ),
    ("weights missing", lambda p: (p / "model.safetensors").unlink(), FacekdError, "model.safetensors is missing"),
    ("head missing", lambda p: (p / "head.safetensors").unlink(), FacekdError, "head.safetensors is missing"),
    ("weights changed", lambda p: flip_bit(p / "model.safetensors"), FacekdError, "changed or damaged"),
    ("head changed", lambda p: flip_bit(p / "head.safetensors"), FacekdError, "changed or damaged"),
    ("weights no safetensors", garbage, FacekdError, "is not a safetensors file"),
    ("key missing", lambda p: rewrite(p, lambda s: s.pop("stem.conv.weight")), FacekdError, "missing stem.conv.weight"),
    (
        "key unexpected",
        lambda p: rewrite(p, lambda s: s.update(extra=torch.zeros(1))),
        FacekdError,
        "does not fit MobileFaceNet: unexpected extra",
    ),
    (
        "shape differs",
        lambda p: edit(p, lambda c: c["architecture"]["arguments"].update(scale=0.5)),
        FacekdError,
        r"expand\.conv\.weight is \[32, 32, 1, 1\] instead of \[32, 64, 1, 1\]",
    ),
    (
        "embedding width differs",
        lambda p: edit(p, lambda c: c.update(embedding_width=17)),
        FacekdError,
        "embedding width 17, its architecture mobilefacenet gives 16",
    ),
    (
        "unknown architecture",
        lambda p: edit(p, lambda c: c["architecture"].update(name="mobilefacenet_x")),
        UsageError,
        "unknown model 'mobilefacenet_x'",
    ),
    ("arguments of a wrong kind", lambda p: build(p, blocks="abcd"), FacekdError, "do not build mobilefacenet"),
    ("card nested", lambda p: (p / "card.json").write_text("[" * 100_000), FacekdError, "is not valid JSON"),
    ("card of digits", lambda p: (p / "card.json").write_text("9" * 10_000), FacekdError, "is not valid JSON"),
    ("newer schema", lambda p: edit(p, lambda c: c.update(schema_version=2)), FacekdError, "schema version 2.*upgrade"),
    ("card no JSON", lambda p: (p / "card.json").write_text("{"), FacekdError, "is not valid JSON"),
    ("card no object", lambda p: (p / "card.json").write_text("[]"), FacekdError, "is not a bundle's card"),
    ("card binary", lambda p: (p / "card.json").write_bytes(b"\xff\xfe\x00"), FacekdError, "is not valid JSON"),
    ("field missing", lambda p: edit(p, lambda c: c.pop("macs")), FacekdError, "field 'macs' is missing"),
    ("field unknown", lambda p: edit(p, lambda c: c.update(colour="red")), FacekdError, "unknown field 'colour'"),
    ("field wrong", lambda p: edit(p, lambda c: c.update(kind="pupil")), FacekdError, "kind = 'pupil': input"),
    ("colour wrong", lambda p: edit(p, lambda c: c["input"].update(colour="HSV")), FacekdError, "input.colour = 'HSV'"),
]


@pytest.mark.parametrize(("damage", "error", "says"), [row[1:] for row in DAMAGE], ids=[row[0] for row in DAMAGE])
def test_damage_is_one_line(saved: Path, damage: Callable, error: type[FacekdError], says: str) -> None:
    damage(saved)
    with pytest.raises(error, match=says) as caught:
        load_bundle(saved)
    assert type(caught.value) is error  # a usage error (exit 2) or a failure (exit 1), as named
    assert "\n" not in str(caught.value)


def test_other_things_that_are_not_bundles(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"")
    with pytest.raises(UsageError, match="is not a bundle but a file"):
        load_bundle(file)
    (tmp_path / "artefact").mkdir()
    (tmp_path / "artefact" / "manifest.json").write_text("{}")
    with pytest.raises(UsageError, match="is not a bundle but an exported artefact"):
        load_bundle(tmp_path / "artefact")


def test_a_student_is_not_a_teacher(saved: Path) -> None:
    with pytest.raises(UsageError, match=r"is a student's bundle \(mobilefacenet\), not a teacher's"):
        load_teacher(saved)
    assert isinstance(load_bundle(saved), Bundle)


def test_a_card_cannot_run_code_that_was_not_trusted(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bundle from the internet could name any function and its arguments."""
    target = tmp_path / "ran"
    edit(saved, lambda c: c.update(architecture={"name": "os:mkdir", "arguments": {"path": str(target)}}))
    with pytest.raises(UsageError, match=r"wants to run 'os:mkdir'.*FACEKD_TRUSTED_MODULES=os"):
        load_bundle(saved)
    assert not target.exists()

    (tmp_path / "own_models.py").write_text(
        "from facekd.models.architectures.mobilefacenet import MobileFaceNet\n\n"
        "def tiny(**arguments):\n    return MobileFaceNet(**arguments)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    edit(saved, lambda c: c.update(architecture={"name": "own_models:tiny", "arguments": ARGUMENTS}))
    monkeypatch.setenv("FACEKD_TRUSTED_MODULES", "other,own_models")
    assert load_bundle(saved).card.architecture.name == "own_models:tiny"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("mobilefacenet", {"embedding_width": 10**10}),
        ("mobilefacenet", {"feature_channels": 10**9}),
        ("mobilefacenet", {"blocks": [10**9, 1, 1, 1]}),
        ("vit_teacher", {"img_size": 100_000, "depth": 1}),
        ("vit_teacher", {"depth": 10**9}),
        ("swin_teacher", {"embed_dim": 10**9 // 8 * 8}),
        ("timm/resnet18", {"embedding_width": 10**12}),
    ],
)
def test_a_card_cannot_fill_the_memory(saved: Path, name: str, arguments: dict[str, object]) -> None:
    build(saved, name, **arguments)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FacekdError, match=r"does not fit|do not build"):
        load_bundle(saved)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024  # KiB


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (("architecture", "name"), "iresnet18"),
        (("architecture", "arguments"), {**ARGUMENTS, "blocks": [1, 1, 1, 2]}),
        (("architecture", "arguments"), {**ARGUMENTS, "widht": 3}),
        (("architecture", "arguments"), {**ARGUMENTS, "feature_channels": 10**9}),
        (("head", "num_identities"), 4),
        (("sha256",), "0" * 64),
    ],
)
def test_what_cannot_be_loaded_is_not_verified(saved: Path, field: tuple[str, ...], value: Any) -> None:
    content = json.loads((saved / "card.json").read_text(encoding="utf-8"))
    place = content
    for name in field[:-1]:
        place = place[name]
    place[field[-1]] = value
    (saved / "card.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(FacekdError) as loading:
        load_bundle(saved)
    with pytest.raises(FacekdError) as verifying:
        verify_bundle(saved)
    assert str(loading.value) == str(verifying.value)


def test_verifying_holds_no_weight_in_memory(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_module, "load_file", lambda file: pytest.fail(f"{file} is read"))
    assert verify_bundle(saved).name == "tiny"
