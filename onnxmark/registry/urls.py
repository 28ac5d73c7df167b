"""URLs of registries: which roots are some, and what of them may be shown."""

from __future__ import annotations

import re
from typing import Final

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(?:::[A-Za-z][A-Za-z0-9+.-]*)*://")
_SECRETS: Final = re.compile(r"^([A-Za-z][\w+.:-]*://)(?:[^/?#]*@)?([^?#]*).*", re.DOTALL)


def is_remote(root: str) -> bool:
    """Whether a root is a URL rather than a path; ``file://`` is a URL of a path."""
    return _URL.match(root) is not None


def public(location: str) -> str:
    """A path or URL as it may be shown: without the user and password, and without the query, which may be signed."""
    return _SECRETS.sub(r"\1\2", location)


def carries_password(url: str) -> bool:
    """Whether a URL names a user with a password."""
    place = url.partition("://")[2].partition("/")[0]
    return ":" in place.rpartition("@")[0]
