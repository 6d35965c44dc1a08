"""Measures the memory and the time in which a table of conversations is read row by row.

For each number of rows a table of random words is written, all rows are measured, and rows are read
in random order. What grows with the number of rows should be a few bytes a row. Every measurement
is a process of its own. Words are long, and one token each unless a tokenizer is given: much to
read, little to compute.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

WORDS = 100
READ = 300


def vocabulary() -> list[str]:
    """Return the words of all tables."""
    generator = random.Random(0)  # noqa: S311
    return [f"{generator.getrandbits(256):064x}" for _ in range(2000)]


def write(path: Path, rows: int, group: int) -> None:
    """Write a table of conversations, in row groups of `group` rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from layersight.data.schemas import INSTRUCT

    generator = random.Random(0)  # noqa: S311
    words = vocabulary()

    def row(index: int) -> dict[str, Any]:
        question = {
            "from": "human",
            "value": "<image>\n" + " ".join(generator.choices(words, k=20)),
        }
        answer = {"from": "gpt", "value": " ".join(generator.choices(words, k=WORDS))}
        entry: dict[str, Any] = {"item_id": f"{index}", "task": "t", "concept": "c"}
        entry |= {"image_id": f"folder/{index}.jpg", "conversations": [question, answer]}
        return entry | {"answer_class": None}

    with pq.ParquetWriter(path, INSTRUCT) as file:
        for start in range(0, rows, group):
            entries = [row(index) for index in range(start, min(start + group, rows))]
            file.write_table(pa.Table.from_pylist(entries, schema=INSTRUCT))


def resident() -> float:
    """Return the memory of this process in MB (Linux)."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024


def word_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer for which every word of the tables is one token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    known = ["<unk>", "<eos>", *vocabulary()]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(known)}, "<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = dict.fromkeys(("eos_token", "pad_token"), "<eos>")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **special)
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message['role'] + '\\n' + message['content'] }} <eos>\\n"
        "{% endfor %}{% if add_generation_prompt %}assistant\\n{% endif %}"
    )
    return tokenizer


def measure(rows: int, group: int, tokenizer_folder: Path | None, cache_mb: float) -> None:
    """Print what reading a table takes, as one line of JSON."""
    from transformers import AutoTokenizer

    from layersight.data import streaming
    from layersight.data.streaming import ConversationTable
    from layersight.study_file import load_study

    study = load_study(Path(__file__).parent.parent / "config/studies/smoke.yaml")
    with tempfile.TemporaryDirectory() as folder:
        if tokenizer_folder is None:
            tokenizer = word_tokenizer()
        else:
            tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
        tokenizer.model_max_length = 10**6
        warm, path = Path(folder) / "warm.parquet", Path(folder) / "table.parquet"
        for target, size in ((warm, 300), (path, rows)):
            # Elsewhere: what writing has freed would be used again by reading, and not be seen.
            subprocess.run(
                [sys.executable, __file__, "--write", target, str(size), str(group)], check=True
            )
        ConversationTable(study, warm, tokenizer, 4).lengths()
        before = peak = resident()
        start = time.monotonic()
        table = ConversationTable(
            study, path, tokenizer, 4,
            work=Path(folder) / "work", cache_bytes=int(cache_mb * 2**20),
        )  # fmt: skip

        # Memory is looked at on the way, whenever a line of progress may be due.
        class Watch(streaming.Progress):
            def advance(self, n: int = 1, note: str = "") -> None:
                nonlocal peak
                peak = max(peak, resident())
                super().advance(n, note)

        streaming.Progress = Watch  # type: ignore[misc]
        lengths = table.lengths()
        scanned = time.monotonic()
        chosen = random.Random(1).choices(range(rows), k=READ)  # noqa: S311
        for count, row in enumerate(chosen):
            if len(table.row(row)[0].input_ids) != lengths[row]:
                raise SystemExit(f"row {row} has another length than before")
            if count % 50 == 0:
                peak = max(peak, resident())
        print(
            json.dumps(
                {
                    "rows": rows,
                    "table_mb": round(path.stat().st_size / 2**20, 1),
                    "grown_mb": round(peak - before, 1),
                    "scan_ms_a_row": round((scanned - start) / rows * 1e3, 3),
                    "read_ms_a_row": round((time.monotonic() - scanned) / READ * 1e3, 3),
                }
            )
        )


def main() -> None:
    """Measure tables of growing size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[2000, 20000])
    parser.add_argument("--group", type=int, default=256, help="rows of a row group")
    parser.add_argument("--tokenizer", type=Path, help="folder; one token a word if left out")
    parser.add_argument("--cache-mb", type=float, default=8.0, help="memory for row groups")
    parser.add_argument("--measure", type=int, metavar="ROWS", help="measure in this process")
    parser.add_argument("--write", nargs=3, metavar=("PATH", "ROWS", "GROUP"), help="write a table")
    given = parser.parse_args()
    if given.write:
        write(Path(given.write[0]), int(given.write[1]), int(given.write[2]))
    elif given.measure:
        measure(given.measure, given.group, given.tokenizer, given.cache_mb)
    else:
        for rows in given.rows:
            command = [sys.executable, __file__, "--measure", str(rows)]
            command += ["--group", str(given.group), "--cache-mb", str(given.cache_mb)]
            command += ["--tokenizer", str(given.tokenizer)] if given.tokenizer else []
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
