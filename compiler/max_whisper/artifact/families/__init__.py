"""The artifacts of each family of models, one file each; importing this package registers all of them."""

from __future__ import annotations

from max_whisper.registry import import_modules

import_modules(__name__)
