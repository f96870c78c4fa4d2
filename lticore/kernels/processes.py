"""Whether this process is the child of a fork.

A fork copies memory and the calling thread alone: the other threads of the parent, for which a
parallel kernel waits, do not exist in the child, and GNU OpenMP ends a child that asks for them.
Registered with ``import lticore``, not with the first kernel: other packages start such threads.
"""

from __future__ import annotations

import os

_forked = False


def is_forked() -> bool:
    """Whether this process was forked from one that had imported lticore."""
    return _forked


def _remember() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_remember)
