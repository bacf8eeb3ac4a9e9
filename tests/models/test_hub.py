"""Push and pull against a local stand-in for the Hub: a folder a repository. No test reaches the network."""

import builtins
import shutil
from pathlib import Path

import huggingface_hub
import pytest

from facekd.common.errors import FacekdError, UsageError
from facekd.models.bundle import load_bundle, save_bundle
from facekd.models.describe import describe
from facekd.models.hub import pull_bundle, push_bundle
from facekd.models.registry import create_model

ARGUMENTS = {"scale": 0.25, "blocks": [1, 1, 1, 1], "embedding_width": 16, "feature_channels": 32}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    model = create_model("mobilefacenet", **ARGUMENTS)
    card = describe(model, kind="student", name="tiny", architecture="mobilefacenet", arguments=ARGUMENTS)
    return save_bundle(tmp_path / "bundle", model, card)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replaces the client's two entry points by copies to and from a folder, which is returned."""
    root = tmp_path / "hub"

    class HfApi:
        def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> None:
            (root / repo_id).mkdir(parents=True, exist_ok=exist_ok)
            (root / repo_id / "visibility").write_text("private" if private else "public")

        def upload_folder(self, *, repo_id: str, folder_path: str, allow_patterns: list, commit_message: str) -> str:
            for name in allow_patterns:
                if (Path(folder_path) / name).exists():
                    shutil.copy(Path(folder_path) / name, root / repo_id)
            return f"https://hub.example/{repo_id}/commit/1"

    def snapshot_download(repo_id: str, *, revision: str | None, allow_patterns: list, local_dir: str) -> str:
        if not (root / repo_id).is_dir():
            raise FileNotFoundError(f"404 Client Error: no repository {repo_id}.\nRequest ID: 1")
        for name in allow_patterns:
            if (root / repo_id / name).exists():
                shutil.copy(root / repo_id / name, local_dir)
        (Path(local_dir) / ".cache").mkdir()  # as the client leaves one
        return local_dir

    monkeypatch.setattr(huggingface_hub, "HfApi", HfApi)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return root


def test_there_and_back(bundle: Path, hub: Path, tmp_path: Path) -> None:
    (bundle / "private.txt").write_text("not part of a bundle")
    assert push_bundle(bundle, "owner/tiny") == "https://hub.example/owner/tiny/commit/1"
    assert (hub / "owner/tiny/visibility").read_text() == "private"
    assert not (hub / "owner/tiny/private.txt").exists()
    pull_bundle("owner/tiny", tmp_path / "back")
    names = ["README.md", "card.json", "model.safetensors"]
    assert sorted(p.name for p in (tmp_path / "back").iterdir()) == names
    assert all((tmp_path / "back" / name).read_bytes() == (bundle / name).read_bytes() for name in names)
    load_bundle(tmp_path / "back")
    with pytest.raises(UsageError, match="already holds a bundle"):
        pull_bundle("owner/tiny", tmp_path / "back")
    push_bundle(bundle, "owner/open", private=False)
    assert (hub / "owner/open/visibility").read_text() == "public"


def test_what_comes_back_is_verified(bundle: Path, hub: Path, tmp_path: Path) -> None:
    push_bundle(bundle, "owner/tiny")
    weights = hub / "owner/tiny/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(FacekdError, match="changed or damaged"):
        pull_bundle("owner/tiny", tmp_path / "back")
    (hub / "owner/tiny/card.json").unlink()
    with pytest.raises(FacekdError, match=r"owner/tiny holds no facekd bundle: it has no card\.json"):
        pull_bundle("owner/tiny", tmp_path / "back")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bundle", "hub"]


def test_a_damaged_bundle_is_not_pushed(bundle: Path, hub: Path) -> None:
    (bundle / "model.safetensors").write_bytes(b"")
    with pytest.raises(FacekdError, match="changed or damaged"):
        push_bundle(bundle, "owner/tiny")
    assert not hub.exists()


@pytest.mark.parametrize("repo", ["tiny", "a/b/c", "/tiny", ""])
def test_repository_names(bundle: Path, hub: Path, tmp_path: Path, repo: str) -> None:
    with pytest.raises(UsageError, match="give owner/name"):
        push_bundle(bundle, repo)
    with pytest.raises(UsageError, match="give owner/name"):
        pull_bundle(repo, tmp_path / "back")


def test_failures_are_one_line(bundle: Path, hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        FacekdError, match="cannot pull owner/none: 404 Client Error: no repository owner/none;"
    ) as error:
        pull_bundle("owner/none", tmp_path / "back")
    assert "\n" not in str(error.value)
    # The client's HTTP library has changed over time; whichever it is, being offline is one line.
    http_error = huggingface_hub.errors.HfHubHTTPError.__bases__[0]

    class Unreachable(http_error):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            Exception.__init__(self, "name resolution failed")

        def __str__(self) -> str:
            return "name resolution failed"

    def refuse(*arguments: object, **options: object) -> None:
        raise Unreachable

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", refuse)
    with pytest.raises(FacekdError, match=r"cannot push .* to owner/tiny: name resolution failed"):
        push_bundle(bundle, "owner/tiny")
    assert not (tmp_path / "back").exists()


def test_the_package_is_optional(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without_hub(name: str, *arguments: object, **options: object) -> object:
        if name == "huggingface_hub":
            raise ImportError(name)
        return real_import(name, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without_hub)
    for call in (lambda: push_bundle(bundle, "owner/tiny"), lambda: pull_bundle("owner/tiny", tmp_path / "back")):
        with pytest.raises(FacekdError, match=r"pip install 'facekd\[hub\]'"):
            call()
