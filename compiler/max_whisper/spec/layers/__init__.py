"""The layer kinds, one file each. Importing this package imports, and so registers, every one of them."""

from __future__ import annotations

from max_whisper.registry import import_modules

import_modules(__name__)
