"""Data that the field uses and facekd does not read: recognised, and told what would work instead."""

from collections import Counter
from pathlib import Path

from facekd.common.errors import FacekdError
from facekd.common.file_kind import kind_of_file
from facekd.data.image_files import in_words, is_folder, list_images, visible_entries

_FORMATS = (
    ((".mdb", ".lmdb"), "an LMDB", "write its images into folders, one a person, or into tars"),
    ((".tfrecord", ".tfrecords", ".tfr"), "a TFRecord file", "write its images into tars (WebDataset)"),
    ((".npz", ".npy"), "NumPy arrays", "write each array as an image file, in a folder for each person"),
    ((".mat",), "a MATLAB file", "write its images into folders, one a person"),
    ((".h5", ".hdf5"), "an HDF5 file", "write its images into folders, one a person"),
    ((".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"), "a compressed tar", "unpack it to a plain .tar (gunzip) or a folder"),
    ((".zip", ".7z", ".rar"), "an archive", "unpack it to a folder"),
    ((".arrow",), "an Arrow file of a data set's cache", "give the .parquet files of the data set"),
    ((".bin",), "pairs to verify", "a .bin holds no identities: give it to --pairs"),
)


def unread_format(path: Path) -> tuple[str, str] | None:
    """(what it is, what would work) of a file or folder in a format that is not read; None where it is not known."""
    if path.is_dir():
        if (path / "data.mdb").is_file():
            return _FORMATS[0][1:]
        if (path / "dataset_info.json").is_file() and any(path.glob("*.arrow")):
            return "a data set saved by Hugging Face's save_to_disk", "save it with to_parquet, and give those files"
        return None
    name = path.name.lower()
    known = next((rest for suffixes, *rest in _FORMATS if name.endswith(suffixes)), None)
    if known is None and ".tfrecord-" in name:
        known = list(_FORMATS[1][1:])
    return None if known is None else (known[0], known[1])


def describe_file(path: Path) -> str:
    """What a file is, for a message that it is no source of faces: ": it is an LMDB; write ..."."""
    if (known := unread_format(path)) is not None:
        return f": it is {known[0]}, which is not read; {known[1]}"
    kind = kind_of_file(path)
    return f": it is {kind.name}" if kind is not None else ""


def no_identity_folders(path: Path, broken: list[tuple[str, str]]) -> FacekdError:
    """The error for a folder without a folder of images for each person: what is there, and what would work.

    Args:
        path: the folder.
        broken: (key, why) of the files in its folders that are no images.
    """
    if (known := unread_format(path)) is not None:
        return FacekdError(f"{path} is {known[0]}, which is not read: {known[1]}")
    entries = visible_entries(path)
    files = [Path(entry.path) for entry in entries if not is_folder(entry)]
    formats = Counter(known for file in files if (known := unread_format(file)) is not None)
    if formats:
        (what, advice), _ = formats.most_common(1)[0]
        example = next(file.name for file in files if unread_format(file) == (what, advice))
        return FacekdError(f"{path} holds {example}, {what}, which is not read: {advice}")
    if records := [file.name for file in files if file.suffix == ".rec"]:
        return FacekdError(
            f"{path} holds {len(records)} .rec files, such as {records[0]}: give one of them, or make one data set of "
            "them with `facekd data index`"
        )
    if nested := _nested(path, [entry.name for entry in entries if is_folder(entry)]):
        return FacekdError(f"{path} holds folders of folders of images: give one of them, such as {path / nested}")
    loose = list_images(path, below=False).images
    hint = f"it holds images itself, such as {loose[0]}: " if loose else ""
    if broken:
        hint = f"it holds {', '.join(in_words(broken))}: "
    elif not loose:
        hint = f"it holds {', '.join(entry.name for entry in entries[:4]) or 'nothing'}: "
    return FacekdError(
        f"{path} holds no identity folder with images: {hint}put each person's images into a folder of their own"
    )


def _nested(path: Path, folders: list[str]) -> str | None:
    """The first folder that itself has folders of images."""
    for name in folders[:20]:
        inner = [entry for entry in visible_entries(path / name) if is_folder(entry)]
        if any(list_images(Path(entry.path), below=False).images for entry in inner[:3]):
            return name
    return None
