"""`stagefleet model`: import a model, look at it, check it."""

from pathlib import Path
from typing import Annotated, Self

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from runtime.cli.output import messages, print_json, results
from runtime.model.check import bad_files
from runtime.model.manifest import Manifest, ModelFile, WantedDtype, read_manifest

app = typer.Typer(help="Models on disk: import, show, verify.", no_args_is_help=True)

Directory = Annotated[Path, typer.Argument(help="An imported model.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


@app.command("import")
def import_(
    source: Annotated[
        str,
        typer.Argument(
            help="A GGUF file, a Hugging Face directory, a model of the hub as OWNER/MODEL or "
            "OWNER/MODEL@REVISION (token: HF_TOKEN), or `sample` for the demonstration model."
        ),
    ],
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="The model directory.")],
    dtype: Annotated[
        WantedDtype,
        typer.Option(
            help="Number format to store; auto: the source's, bfloat16 for quantised GGUF.",
        ),
    ] = "auto",
    name: Annotated[
        str | None, typer.Option(help="What the model is called (default: its source's name).")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a model directory that holds something else.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Turn a checkpoint into a model directory with one file per block."""
    from runtime.model.importer import find_source, import_model

    with _Bar("importing") as bar:
        imported = import_model(
            find_source(source),
            destination.expanduser(),
            dtype=dtype,
            name=name,
            force=force,
            report=bar.report,
        )
    manifest = imported.manifest
    if as_json:
        print_json({"changed": imported.changed, **_summary(manifest)})
        return
    done = "imported" if imported.changed else "already imported, nothing to do:"
    results.print(f"{done} {_line(manifest)}", markup=False, soft_wrap=True)


@app.command()
def show(directory: Directory, as_json: Json = False) -> None:
    """Say what a model directory holds."""
    manifest = read_manifest(directory.expanduser())
    if as_json:
        print_json(manifest)
        return
    table = Table("part", "files", "size", title=_line(manifest), title_justify="left")
    table.add_row("embeddings", "embeddings.safetensors", _size(manifest.embeddings_bytes))
    for first, last, size in _runs(manifest.block_bytes):
        blocks = f"block {first}" if first == last else f"blocks {first} to {last}, each"
        table.add_row(blocks, f"block-{first:04d}.safetensors …", _size(size))
    tied = " (and the embeddings)" if manifest.tied else ""
    table.add_row("head", f"head.safetensors{tied}", _size(manifest.head_bytes))
    table.add_row("all files", str(len(manifest.files)), _size(manifest.total_bytes))
    results.print(table)
    results.print(f"digest {manifest.digest}", soft_wrap=True)


@app.command()
def verify(directory: Directory, as_json: Json = False) -> None:
    """Compare every file with what was imported; exit 1 if any is missing or changed."""
    directory = directory.expanduser()
    manifest = read_manifest(directory)
    with _Bar("verifying") as bar:
        done = 0

        def report(file: ModelFile) -> None:
            nonlocal done
            done += file.bytes
            bar.report(file.name, done, manifest.total_bytes)

        bad = list(bad_files(directory, manifest.files, deep=True, report=report))
    if as_json:
        listed = [{"file": file.name, "problem": file.problem} for file in bad]
        print_json({"ok": not bad, "digest": manifest.digest, "bad": listed})
    else:
        for file in bad:
            results.print(f"{file.name} {file.problem}", markup=False, soft_wrap=True)
        if not bad:
            results.print(f"{len(manifest.files)} files are as imported", markup=False)
    if bad:
        raise typer.Exit(1)


class _Bar:
    """Progress on standard error: a bar on a terminal, a line per tenth elsewhere."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._said = 0
        self._progress = Progress(
            TextColumn(what),
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=messages,
            transient=True,
            disable=not messages.is_terminal,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        self._task = self._progress.add_task("reading the source", total=None)
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def report(self, file: str, done: int, total: int) -> None:
        self._progress.update(self._task, completed=done, total=total, description=file)
        tenth = 10 * done // total if total else 10
        if not messages.is_terminal and tenth > self._said:
            self._said = tenth
            messages.print(f"{self._what}: {10 * tenth} % ({_size(done)} of {_size(total)})")


def _summary(manifest: Manifest) -> dict[str, object]:
    fields = {"name", "model_type", "total_blocks", "dtype", "max_length", "digest"}
    return {**manifest.model_dump(mode="json", include=fields), "bytes": manifest.total_bytes}


def _line(manifest: Manifest) -> str:
    return (
        f"{manifest.name}: {manifest.model_type}, {manifest.total_blocks} blocks, "
        f"{manifest.dtype}, {_size(manifest.total_bytes)}, up to {manifest.max_length} tokens"
    )


def _runs(sizes: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Return (first, last, size) for each run of blocks of one size."""
    runs: list[tuple[int, int, int]] = []
    for block, size in enumerate(sizes):
        if runs and runs[-1][2] == size:
            runs[-1] = (runs[-1][0], block, size)
        else:
            runs.append((block, block, size))
    return runs


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.2f} MB"
