"""What a prompt's uid says, for readers that must not wait for numpy (``ids`` makes uids)."""

from __future__ import annotations


def uid_content(uid: str) -> str:
    """What all draws of a prompt have in common: the uid up to its last "-", or all of it if there is none.

    >>> uid_content("00c5f3-17")
    '00c5f3'
    """
    return uid.rpartition("-")[0] or uid
