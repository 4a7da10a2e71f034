"""Measures the memory that each source of texts and tables takes while it is opened and read once.

    python benchmarks/corpora.py [--megabytes 600] [--sources "text;table"] [--folder DIR] [--write FILE.json]

Each source reads files of that size, which this script makes, in a process of its own. The growth is the largest
private memory of the process less that before it opens the file; it has read a small one already. Pages of mapped files
are not part of it: the system drops them if it needs the room. The seconds are those of opening the file, and of
reading the training split once, in batches of 4096 in a random order.
"""

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import results
import timing

WORDS = ("distillation", "of", "language", "models", "transfers", "probabilities", "##s", "é", *"0123456789")
LINE = "distillation of language models transfers probabilities " * 6
BATCH = 4096
MIB = 1 << 20


def write_tokenizer(folder: pathlib.Path) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS)) + "\n")
    return str(folder)


def write_lines(path: pathlib.Path, size: int, line) -> None:
    """Writes `line(number)` until a file has `size` bytes."""
    with path.open("w", encoding="utf-8") as file:
        number = written = 0
        while written < size:
            part = "".join(line(number + row) for row in range(1000))
            written, number = written + file.write(part), number + 1000


def write_text(path, size):
    write_lines(path, size, lambda row: f"{row} {LINE}\n")


def write_rows(path, size):
    write_lines(path, size, lambda row: json.dumps({"q": f"{row} {LINE}", "a": LINE[:120], "n": row % 4}) + "\n")


def write_chats(path, size):
    def line(row):
        turns = ({"role": role, "content": f"{row} {LINE[:200]}"} for role in ("user", "assistant"))
        return json.dumps({"messages": [*turns]}) + "\n"

    write_lines(path, size, line)


COLUMNS = 12


def table_chunks(size: int, bytes_of_row: float):
    """Yields columns by name, of 20,000 rows each."""
    draw = np.random.default_rng(0)
    for _ in range(int(size / bytes_of_row / 20_000) + 1):
        numbers = draw.normal(size=(20_000, COLUMNS))
        yield {f"x{n}": numbers[:, n] for n in range(COLUMNS)} | {
            "colour": np.array(["red", "green", "blue"])[draw.integers(0, 3, 20_000)],
            "y": np.array(["no", "yes"])[draw.integers(0, 2, 20_000)],
        }


def write_csv(path, size):
    with path.open("w") as file:
        for number, chunk in enumerate(table_chunks(size, 19 * COLUMNS + 8)):
            file.write("" if number else ",".join(chunk) + "\n")
            file.writelines(
                ",".join(map(str, row)) + "\n" for row in zip(*(x.tolist() for x in chunk.values()), strict=True)
            )


def write_parquet(path, size):
    import pyarrow
    from pyarrow import parquet

    writer = None
    for chunk in table_chunks(size, 8 * COLUMNS + 1):
        table = pyarrow.table(chunk)
        writer = writer or parquet.ParquetWriter(path, table.schema)
        writer.write_table(table)
    writer.close()


def write_saved(path, size):
    """Writes a folder in the form of `save_to_disk`."""
    import pyarrow

    path.mkdir()
    writer = None
    with pyarrow.OSFile(str(path / "data.arrow"), "wb") as sink:
        for chunk in table_chunks(size, 8 * COLUMNS + 16):
            table = pyarrow.table(chunk)
            writer = writer or pyarrow.ipc.new_stream(sink, table.schema)
            writer.write_table(table)
        writer.close()
    (path / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
    (path / "dataset_info.json").write_text(json.dumps({"features": {}}))


def write_tokens(save):
    def write(path, size):
        half = np.random.default_rng(0).integers(0, 30_000, (size // 4 // 128, 128), np.int32)
        with path.open("wb") as file:
            save(file, train_tokens=half, test_tokens=half[:16], vocabulary=np.array(30_000))

    return write


def write_features(path, size):
    features = np.random.default_rng(0).normal(size=(size // 4 // 64, 64)).astype(np.float32)
    label = np.arange(len(features)) % 2
    with path.open("wb") as file:
        np.savez(file, train_features=features, train_label=label, test_features=features[:9], test_label=label[:9])


def write_tfds(path, size):
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import registered

    tfds.disable_progress_bar()
    rows = size // len(LINE) + 1
    with registered.skip_registration():

        class Lines(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.0.0")

            def _info(self):
                features = {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(num_classes=2)}
                return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

            def _split_generators(self, manager):
                return {role: self._generate_examples(n) for role, n in (("train", rows), ("test", 9))}

            def _generate_examples(self, count=0):
                for row in range(count):
                    yield row, {"text": f"{row} {LINE}", "label": row % 2}

    Lines(data_dir=str(path), file_format="array_record").download_and_prepare()


ROWS = {"text": "q", "tokenizer": "WORDS", "length": 128}
TABLE = {"label": "y", "transforms": ("onehot", "impute:mean", "standardize")}
CHATS = {"messages": "messages", "tokenizer": "WORDS", "length": 128}
SOURCES = {
    "text, bytes": ("t.txt", write_text, "text", {"length": 128}),
    "text, tokenizer": ("t.txt", write_text, "text", {"length": 128, "tokenizer": "WORDS"}),
    "text_rows, JSONL": ("t.jsonl", write_rows, "text_rows", ROWS | {"label": "n"}),
    "answers, JSONL": ("t.jsonl", write_rows, "answers", ROWS | {"answer": "a"}),
    "answers, chats": ("c.jsonl", write_chats, "answers", CHATS),
    "TFDS, texts": ("tfds", write_tfds, "lines", {"tokenizer": "WORDS", "length": 128}),
    "table, CSV": ("t.csv", write_csv, "table", TABLE),
    "table, Parquet": ("t.parquet", write_parquet, "table", TABLE),
    "table, datasets folder": ("saved", write_saved, "table", TABLE),
    "npz, tokens": ("t.npz", write_tokens(np.savez), "npz", {}),
    "npz, tokens, compressed": ("z.npz", write_tokens(np.savez_compressed), "npz", {}),
    "npz, features": ("f.npz", write_features, "npz", {"transforms": ("standardize",)}),
}


def load(folder: pathlib.Path, source: str):
    from jaxdistill.data import datasets
    from jaxdistill.data.dataset import AnswerSettings

    file, _, name, options = SOURCES[source]
    options = dict(options)
    if "tokenizer" in options:
        options["tokenizer"] = str(folder.parent / "words")
    answers = {key: options.pop(key) for key in ("answer", "messages") if key in options}
    if answers:
        options["answers"] = AnswerSettings(template="plain" if "messages" in answers else "", **answers)
    place = {"data_dir": str(folder / file)} if name == "lines" else {"path": str(folder / file)}
    if name == "lines":
        options["splits"] = {"train": "train", "test": "test"}
    return datasets.load(name, **place, **options)


def child(folder: pathlib.Path, source: str) -> None:
    load(folder.parent / "few", source)
    print("ready", flush=True)
    sys.stdin.readline()
    start = time.perf_counter()
    split = load(folder, source).split("train")
    order = np.random.default_rng(0).permutation(len(split))
    for first in range(0, len(order), BATCH):
        split.take(order[first : first + BATCH])
    print(json.dumps({"examples": len(split), "seconds": time.perf_counter() - start}), flush=True)


def private_memory(process: int) -> int:
    """Returns the bytes of a process that belong to no file."""
    try:
        lines = pathlib.Path(f"/proc/{process}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon")), 0)


def file_bytes(path: pathlib.Path) -> int:
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())


def measure(root: pathlib.Path, source: str, size: int) -> dict:
    file, write, *_ = SOURCES[source]
    for name, wanted in (("few", MIB // 4), ("many", size)):
        (root / name).mkdir(exist_ok=True)
        if not (root / name / file).exists():
            write(root / name / file, wanted)
    command = [sys.executable, __file__, "--child", source, "--folder", str(root / "many")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        before = peak = private_memory(process.pid)
        process.stdin.write("\n")
        process.stdin.flush()
        while process.poll() is None:
            peak = max(peak, private_memory(process.pid))
            time.sleep(0.02)
        ran = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"{source}: the process ended with {process.returncode}")
    return {"file_mb": file_bytes(root / "many" / file) / MIB, "growth_mb": (peak - before) / MIB} | json.loads(ran)


COLUMNS_OF_TABLE = {
    "name": "source",
    "file_mb": "file (MiB)",
    "growth_mb": "growth (MiB)",
    "growth/file": "growth / file",
    "examples": "examples",
    "seconds": "seconds",
}


def main() -> None:
    parser = timing.make_parser(__doc__, rounds=1)
    parser.add_argument("--megabytes", type=int, default=600, help="the size of each file")
    parser.add_argument("--sources", default="", help="parts of their names, with ; between them; all by default")
    parser.add_argument("--folder", default=None, help="for the files; a temporary one by default")
    parser.add_argument("--child", default="", help="the source that this process reads, of files in the folder")
    given = parser.parse_args()
    if given.child:
        child(pathlib.Path(given.folder), given.child)
        return
    chosen = [name for name in SOURCES if any(part in name for part in given.sources.split(";"))]
    rows = []
    for source in chosen:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            write_tokenizer(pathlib.Path(folder) / "words")
            found = [measure(pathlib.Path(folder), source, given.megabytes * MIB) for _ in range(given.rounds)]
        row = {key: statistics.median(run[key] for run in found) for key in found[0]}
        rows.append({"name": source, **row, "growth/file": row["growth_mb"] / row["file_mb"]})
        results.write(given.write, {"": rows}, columns=COLUMNS_OF_TABLE)


if __name__ == "__main__":
    main()
