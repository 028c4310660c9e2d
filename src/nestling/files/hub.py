"""Where a model lies: a path is a path, `owner/name` is a hub id, looked up in the local cache first."""

import re
from contextlib import suppress
from pathlib import Path

from nestling.errors import InputError

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
WANTED = ["*.json", "*.safetensors", "*.nest", "*.onnx", "README.md", "*/*.json", "*/*.safetensors"]


def find_folder(source: str | Path, *, revision: str | None = None) -> Path:
    """A local file or folder, or the local copy of a hub repository (downloaded if the cache lacks it)."""
    with suppress(OSError, RuntimeError):  # a name that is too long, a ~user that is not there
        path = Path(source).expanduser()
        if path.exists():
            return path
    if isinstance(source, Path) or not HUB_ID.fullmatch(source):
        raise InputError(
            f"{source} is not there.", "A file, a folder or a hub id (owner/name) was expected.", "Check the path."
        )
    return _from_hub(source, revision)


def _from_hub(hub_id: str, revision: str | None) -> Path:
    """Cache first; then, unless HF_HUB_OFFLINE says no, the network. Only data files are fetched, never code."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        with suppress(LocalEntryNotFoundError):
            return Path(snapshot_download(hub_id, revision=revision, allow_patterns=WANTED, local_files_only=True))
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=WANTED))
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, HFValidationError, OSError) as error:
        wanted = f"{hub_id}@{revision}" if revision else hub_id
        raise InputError(
            f"{wanted} is no local path, not in the hub cache, and was not downloaded ({type(error).__name__}).",
            "A path, a cached hub id, or access to the hub was expected.",
            "Check the name, go online without HF_HUB_OFFLINE, or copy the folder here and pass its path.",
        ) from error
