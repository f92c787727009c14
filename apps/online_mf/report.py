"""What the job has learned, for a person to read."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any

import numpy as np

from streamcore.connectors.file_sink import read_jsonl

MOVIES = Path(__file__).parent / "data" / "movies.csv.gz"


def report(output: str, *, shipped: bool) -> str:
    """The error along the way, the items liked best beyond what their raters explain, and where the results are."""
    curve = sorted(read_jsonl(f"{output}/rmse"), key=lambda line: line["ratings"])
    items = read_jsonl(f"{output}/items")
    users = read_jsonl(f"{output}/users")
    if not curve:
        return f"no ratings were learned; results are in {output}"
    last = curve[-1]
    lines = [
        f"learned {last['ratings']:,} ratings of {len(users):,} users and {len(items):,} items",
        f"progressive RMSE {last['rmse']:.4f} over all, {last['recent_rmse']:.4f} over the most recent",
    ]
    steps = curve[:: max(1, len(curve) // 6)]
    lines.append("  as it went: " + "  ".join(f"{line['ratings']:,}: {line['rmse']:.3f}" for line in steps))
    if shipped:
        titles = _titles()
        best = sorted(items, key=lambda item: -item["bias"])[:5]
        lines.append("rated highest beyond their raters' habits: " + "; ".join(titles[item["id"]] for item in best))
        lines.append(_alike(items, titles))
    lines.append(f"results: {output}/rmse, {output}/users, {output}/items (JSON lines)")
    return "\n".join(lines)


def _titles() -> dict[int, str]:
    with gzip.open(MOVIES, "rt", encoding="utf-8", newline="") as file:
        return {int(row["movieId"]): row["title"] for row in csv.DictReader(file)}


def _alike(items: list[dict[str, Any]], titles: dict[int, str]) -> str:
    """The nearest neighbours, by cosine among the hundred items rated most, of the one rated most."""
    known = sorted(items, key=lambda item: -item["ratings"])[:100]
    vectors = np.array([item["vector"] for item in known])
    cosine = vectors @ vectors[0] / np.linalg.norm(vectors, axis=1)
    nearest = [titles[known[i]["id"]] for i in np.argsort(-cosine) if i][:3]
    return f"nearest in taste to {titles[known[0]['id']]}: " + "; ".join(nearest)
