"""What earlier runs measured, from the `plan.json` that each of them left: the next plan of the same model is better."""

import json
from pathlib import Path

FACTOR = "measured_speed_factor"
"""In `plan.json`: measured rows a second over those that a plan without measurements expects."""


def read_speeds(output_dir: Path, model_id: str) -> dict[str, float]:
    """GPU kind of the catalogue -> how much faster than expected this model was trained there, by the newest run."""
    speeds = {}
    for path in sorted(output_dir.glob("*/plan.json"), key=lambda path: path.stat().st_mtime):
        try:
            plan = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        if isinstance(plan, dict) and plan.get("model_id") == model_id and FACTOR in plan:
            speeds[plan["gpu_kind"]] = plan[FACTOR]
    return speeds
