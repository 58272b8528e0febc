"""Reading the TOML files that users write, with what is wrong with them in a sentence."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from lazydiffusion.errors import BadInput


def read_toml(path: Path, role: str) -> dict[str, Any]:
    """The file's top table. `role` names the file in errors ("script"). Raises BadInput: unreadable, or not TOML.

    A mark of the byte order at its beginning, as Windows' editors write it, is no part of the text.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise BadInput(f"The {role} {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"The {role} {path} is not valid TOML: {error}.") from error
