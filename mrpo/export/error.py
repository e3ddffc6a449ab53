"""The one error of this room; it imports nothing, so that a command can name it before torch is loaded."""

from __future__ import annotations

from mrpo.errors import MrpoError


class ExportError(MrpoError, RuntimeError):
    """A model can't be exported. The message names the tensor, file or field, and says what to do where that helps."""
