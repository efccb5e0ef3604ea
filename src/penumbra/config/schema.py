"""Writes ``workflow/schemas/*.json`` from the models: ``python -m penumbra.config.schema``."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel

from penumbra.config.models import Candidate, DatasetFile, Settings, Study

FOLDER = Path(__file__).parents[3] / "workflow" / "schemas"
MODELS: dict[str, type[BaseModel]] = {
    "config": Settings,
    "dataset": DatasetFile,
    "candidate": Candidate,
    "study": Study,
}


def schemas() -> dict[str, str]:
    """File name -> JSON schema text."""
    return {
        f"{name}.schema.json": json.dumps(model.model_json_schema(), indent=2, sort_keys=True) + "\n"
        for name, model in MODELS.items()
    }


if __name__ == "__main__":
    for name, text in schemas().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
