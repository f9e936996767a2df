"""A secret key that is neither in the repository nor the same on two machines."""

import os
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from django.core.management.utils import get_random_secret_key


def load_or_create_secret_key(path: Path) -> str:
    """Read the key from `path`, made at the first call and readable by its owner only.

    Raises:
        ImproperlyConfigured: the file can be neither read nor written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _create_whole(path)
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ImproperlyConfigured(f"Cannot keep a secret key in {path}: {error}. Set DJANGO_SECRET_KEY.") from error


def _create_whole(path: Path) -> None:
    if path.exists():
        return
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.touch(mode=0o600)
    try:
        draft.write_text(get_random_secret_key(), encoding="ascii")
        # Linking, unlike renaming, leaves the key of a process that was faster: all of them must use the same one.
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
