"""What the job has counted, for a person to read."""

from __future__ import annotations

from streamcore.connectors.file_sink import read_jsonl

_MOST = 10


def report(output: str) -> str:
    """Totals, and the most frequent words with bars."""
    counts = sorted(read_jsonl(f"{output}/counts"), key=lambda line: (-line["count"], line["word"]))
    if not counts:
        return f"no words were found; results are in {output}"
    total = sum(line["count"] for line in counts)
    once = sum(line["count"] == 1 for line in counts)
    lines = [f"{total:,} words, {len(counts):,} different ones, {once:,} of them once"]
    most = counts[0]["count"]
    lines += [
        f"  {line['word']:>10} {line['count']:>9,}  {'#' * max(1, round(40 * line['count'] / most))}"
        for line in counts[:_MOST]
    ]
    lines.append(f"results: {output}/counts (JSON lines)")
    return "\n".join(lines)
