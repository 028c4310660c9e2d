"""Where a model lies: a path is a path, `owner/name` is a hub id, looked up in the local cache first."""

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from nestling.errors import InputError, InputTypeError

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
WANTED = ["*.json", "*.safetensors", "*.nest", "*.onnx", "README.md", "*/*.json", "*/*.safetensors"]


def find_folder(source: str | Path, *, revision: str | None = None, names: Iterable[str] = ()) -> Path:
    """A local file or folder, or the local copy of a hub repository (downloaded if the cache lacks it).

    names: what else could have been given, for the error.
    """
    if not isinstance(source, (str, Path)):
        raise InputTypeError(
            f"A source of type {type(source).__name__} was given;",
            "a str or a Path was expected.",
            "Pass one of these.",
        )
    path, kinds = _local(source), ["A file", "a folder", "a hub id (owner/name)", *names]
    if path and revision is not None:
        raise InputError(
            f"revision={revision!r} came with {source}, which is here.",
            "Only a hub id has revisions.",
            "Leave it out.",
        )
    if not path and not _is_hub_id(source):
        raise InputError(
            f"{str(source) or repr('')} is not there.",
            f"{', '.join(kinds[:-1])} or {kinds[-1]} was expected.",
            "Check the spelling.",
        )
    return path or _from_hub(str(source), revision)


def _local(source: str | Path) -> Path | None:
    """The path, if there is something."""
    with suppress(OSError, RuntimeError):  # a name that is too long, a ~user that is not there
        path = Path(source).expanduser()
        if source != "" and path.exists():
            return path
    return None


def _is_hub_id(source: str | Path) -> bool:
    """Whether it can only be meant for the hub: no Path, no .nest file, nothing in a folder that is here."""
    if isinstance(source, Path) or source.lower().endswith(".nest") or not HUB_ID.fullmatch(source):
        return False
    return not Path(source).parent.is_dir()


def _from_hub(hub_id: str, revision: str | None) -> Path:
    """Cache first; then, unless HF_HUB_OFFLINE says no, the network. Only data files are fetched, never code."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    cached = "not"
    try:
        with suppress(LocalEntryNotFoundError):
            folder = Path(snapshot_download(hub_id, revision=revision, allow_patterns=WANTED, local_files_only=True))
            if _is_whole(folder):
                return folder
            cached = "only partly"
        folder = Path(snapshot_download(hub_id, revision=revision, allow_patterns=WANTED))
        if cached == "only partly" and not _is_whole(folder):  # without a network, it is the cached one again
            raise FileNotFoundError(folder)
        return folder
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, HFValidationError, OSError) as error:
        wanted = f"{hub_id}@{revision}" if revision else hub_id
        raise InputError(
            f"{wanted} is no local path, {cached} in the hub cache, and was not downloaded ({type(error).__name__}).",
            "A path, a cached hub id, or access to the hub was expected.",
            "Check the name, go online without HF_HUB_OFFLINE, or copy the folder here and pass its path.",
        ) from error


def _is_whole(folder: Path) -> bool:
    """Whether a snapshot holds what some model is loaded from: a .nest file, or weights and a tokenizer."""
    names = {file.name for file in [*folder.glob("*"), *folder.glob("*/*")] if file.is_file()}
    weights = any(name.endswith((".safetensors", ".onnx")) for name in names)
    return any(name.endswith(".nest") for name in names) or (weights and "tokenizer.json" in names)
