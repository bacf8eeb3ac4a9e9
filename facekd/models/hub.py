"""Bundles on the Hugging Face Hub: pushed and pulled only when asked, checked like any other bundle."""

from pathlib import Path
from types import ModuleType

from facekd.common.errors import FacekdError, UsageError, first_line
from facekd.common.validation import shown
from facekd.models.bundle import new_folder, verify_bundle
from facekd.schemas.card import CARD_FILE, HEAD_FILE, WEIGHTS_FILE

_FILES = [WEIGHTS_FILE, CARD_FILE, HEAD_FILE, "README.md"]


def push_bundle(path: str | Path, repo: str, *, private: bool = True) -> str:
    """Uploads a bundle to the model repository `repo`, made if it is not there; private unless told otherwise.

    Returns:
        The commit's address.

    Raises:
        UsageError: `path` is not a bundle, or `repo` is not owner/name.
        FacekdError: the bundle is damaged, huggingface_hub is not installed, or the Hub refused or was not reached.
    """
    _check_repo(repo)
    verify_bundle(path)
    hub = _hub()
    try:
        api = hub.HfApi()
        api.create_repo(repo, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo, folder_path=str(path), allow_patterns=_FILES, commit_message="Add a facekd bundle"
        )
    except _errors(hub) as error:
        raise FacekdError(
            f"cannot push {path} to {repo}: {first_line(error).rstrip('.')}; is the login valid (`hf auth login`)?"
        ) from error
    return str(commit)


def pull_bundle(repo: str, out: str | Path, *, revision: str | None = None, overwrite: bool = False) -> Path:
    """Downloads a bundle from the model repository `repo`, verifies it and puts it at `out`.

    Args:
        revision: a branch, tag or commit; default the main branch.
        overwrite: replace a bundle at `out`.

    Raises:
        UsageError: `repo` is not owner/name, or something else is at `out`.
        FacekdError: huggingface_hub is not installed, the Hub was not reached, or what came is not a sound bundle.
    """
    _check_repo(repo)
    hub = _hub()
    out = Path(out)
    with new_folder(out, overwrite=overwrite) as folder:
        try:
            hub.snapshot_download(repo, revision=revision, allow_patterns=_FILES, local_dir=str(folder))
        except _errors(hub) as error:
            raise FacekdError(
                f"cannot pull {repo}: {first_line(error).rstrip('.')}; check the name, the network and the login "
                "(`hf auth login`)"
            ) from error
        if not (folder / CARD_FILE).is_file():
            raise FacekdError(f"{repo} holds no facekd bundle: it has no {CARD_FILE}")
        verify_bundle(folder)
        for extra in folder.iterdir():
            if extra.name not in _FILES:  # the client's own cache folder
                _remove(extra)
    return out


def _hub() -> ModuleType:
    try:
        import huggingface_hub
    except ImportError as error:
        raise FacekdError("the Hub needs huggingface_hub: pip install 'facekd[hub]'") from error
    return huggingface_hub


def _errors(hub: ModuleType) -> tuple[type[Exception], ...]:
    """What its calls raise: its own errors, their HTTP library's (it has changed over time) and the system's."""
    return (OSError, ValueError, *hub.errors.HfHubHTTPError.__bases__)


def _check_repo(repo: str) -> None:
    if repo.count("/") != 1 or not all(repo.split("/")):
        raise UsageError(f"{shown(repo)} is not a repository; give owner/name")


def _remove(path: Path) -> None:
    import shutil

    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
