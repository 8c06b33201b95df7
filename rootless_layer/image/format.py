"""The forms in which images are written."""

from __future__ import annotations

from typing import Literal

Format = Literal["layout", "archive", "docker-archive"]
"""A directory as the image-spec has it; one file of that, for engines to load; and the older file of docker's own shape."""
BillForm = Literal["spdx", "cyclonedx"]
"""The forms of a bill of materials: SPDX 2.3 and CycloneDX 1.6, in JSON."""
BY_IMAGE = "rootless-layer image"
"""What made an image of its parts, as its history says where nobody says otherwise."""
