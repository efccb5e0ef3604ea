"""The files that the page is made of: templates, style, scripts, and the bundled libraries with their licences.

This module is read whenever a workflow is planned, so it imports nothing heavy.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
TEMPLATES = FOLDER / "templates"
STATIC = FOLDER / "static"
VENDOR = FOLDER / "vendor"
VENDORED = VENDOR / "VENDORED.md"
"""Name, version and SHA-256 of every bundled library."""


def copied() -> dict[str, Path]:
    """Every file that goes into the page as it is, by its place below the page's folder, sorted."""
    found = {
        f"{place}/{file.relative_to(folder).as_posix()}": file
        for place, folder in (("assets", STATIC), ("assets/vendor", VENDOR))
        for file in folder.rglob("*")
        if file.is_file()
    }
    return dict(sorted(found.items()))


@cache
def assets_digest() -> str:
    """A hexadecimal digest (16 characters) of templates, style, scripts and libraries, for the rule of the page."""
    digest = hashlib.sha256()
    files = {f"templates/{file.name}": file for file in TEMPLATES.iterdir() if file.is_file()} | copied()
    for name in sorted(files):
        digest.update(f"{name} {hashlib.sha256(files[name].read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]
