"""What a host has room for: disks, memory, the model."""

from collections.abc import Iterator

from runtime.checks.doctor.asked import CODE, Moment
from runtime.checks.doctor.catalogue import (
    LEAST_FREE_BYTES,
    LEAST_FREE_FILES,
    MEMORY,
    MODEL,
    MODEL_SPEED,
    ROOM,
    SCARCE_FREE_BYTES,
    SCARCE_FREE_FILES,
    SLOW_READ_MEGABYTES,
    SLOW_WRITE_MEGABYTES,
    SPEED,
)
from runtime.checks.doctor.finding import Finding
from runtime.checks.doctor.judges.context import Context, size
from runtime.checks.doctor.seen import Directory, ModelFiles
from runtime.spec.server import Stage

_MOST_OF_MEMORY = 0.9
_BYTES_OF = {"float32": 4, "bfloat16": 2, "float16": 2}
_MODEL = "model"


def room(context: Context) -> Iterator[Finding]:
    """Judge the room of each file system once, whatever of the fleet is on it."""
    found = context.seen.directories
    if found is None:
        yield context.skipped(ROOM, "no server is planned here, so that nothing needs room")
        return
    by_mount: dict[str, list[Directory]] = {}
    for each in found:
        by_mount.setdefault(each.mount, []).append(each)
    for mount, directories in sorted(by_mount.items()):
        # Nothing of the fleet writes to the model.
        written = [each for each in directories if each.use != _MODEL]
        if written:
            yield _room(context, mount, written)


def _room(context: Context, mount: str, directories: list[Directory]) -> Finding:
    first = directories[0]
    uses = ", ".join(each.use for each in directories)
    files = f", {first.files_free} files" if first.files else ""
    evidence = f"{size(first.free)}{files} free of {size(first.total)} ({first.kind}), for {uses}"
    remedy = f"find what fills it (du -xh --max-depth=2 {mount} | sort -h), and remove or move it"
    if first.read_only:
        return context.fail(
            ROOM,
            f"read-only ({first.kind}), for {uses}",
            f"see in dmesg why the kernel made it so; then: mount -o remount,rw {mount}",
            mount,
        )
    # File systems without a fixed number of files say 0.
    if first.free < LEAST_FREE_BYTES or (first.files and first.files_free < LEAST_FREE_FILES):
        return context.fail(ROOM, evidence, remedy, mount)
    scarce = first.free < SCARCE_FREE_BYTES or (
        first.files and first.files_free < SCARCE_FREE_FILES
    )
    # Only an environment takes so much.
    if scarce and any(each.use == CODE for each in directories):
        return context.warn(ROOM, evidence, remedy, mount)
    return context.ok(ROOM, evidence, mount)


def speed(context: Context) -> Iterator[Finding]:
    """Judge how quickly the disk writes."""
    found = (context.seen.speeds or {}).get("write")
    if found is None:
        yield context.skipped(SPEED, "too little room, or no right, to write there")
        return
    evidence = f"writes {found.megabytes_per_second:.0f} MB/s"
    if found.megabytes_per_second < SLOW_WRITE_MEGABYTES:
        yield context.warn(
            SPEED, evidence, "use another disk for fleet.install.root, or see what keeps this busy"
        )
    else:
        yield context.ok(SPEED, evidence)


def model_speed(context: Context) -> Iterator[Finding]:
    """Judge how quickly the model is read, from wherever it is."""
    found = (context.seen.speeds or {}).get("read")
    kind = next((each.kind for each in context.seen.directories or () if each.use == _MODEL), "")
    if found is None:
        yield context.skipped(MODEL_SPEED, "there are no files of the model to read")
        return
    how = "" if found.direct else ", perhaps from memory: this file system cannot be read past it"
    evidence = f"reads {found.megabytes_per_second:.0f} MB/s ({kind}){how}"
    if found.megabytes_per_second < SLOW_READ_MEGABYTES:
        share = kind.startswith(("nfs", "cifs", "smb"))
        yield context.warn(
            MODEL_SPEED,
            evidence,
            "prove the link to the share (link.speed, path.mtu), or keep a local cache of the model"
            if share
            else "copy the model to a faster disk",
        )
    else:
        yield context.ok(MODEL_SPEED, evidence)


def model(context: Context) -> Iterator[Finding]:
    """Judge whether the model's files are there."""
    found = context.seen.model
    if found is None:
        yield context.skipped(MODEL, "no server is planned here")
    elif not found.problem and not found.wrong_files:
        yield context.ok(MODEL, f"{found.path}: {len(found.blocks)} blocks, {found.dtype}")
    else:
        wrong = ", ".join(found.wrong_files[:3])
        evidence = found.problem or f"{found.path}: missing or of another size: {wrong}"
        remedy = (
            f"./fleet model import on one host, then copy the whole directory to {found.path} of "
            f"{context.host} (docs/how-to/import-a-model.md)"
        )
        needed = context.is_installed and context.moment is Moment.NOW
        tell = context.fail if needed else context.warn
        yield tell(MODEL, evidence, remedy)


def memory(context: Context) -> Iterator[Finding]:
    """Judge whether the blocks that servers hold on the CPU fit into memory."""
    found, there = context.seen.memory, context.seen.model
    if found is None:
        yield context.skipped(MEMORY, "the host does not say how much it has")
        return
    evidence = f"{size(found.total)}, {size(found.available)} of it free"
    servers = [stage for stage in context.fleet.stages if stage.host == context.host]
    on_cpu = [stage for stage in servers if not stage.device.startswith("cuda")]
    if not on_cpu:
        yield context.ok(MEMORY, f"{evidence}; nothing of the model is held there")
    elif there is None or not there.blocks:
        yield context.skipped(MEMORY, f"{evidence}; the model's size is not known yet")
    elif any(stage.span is None for stage in on_cpu):
        yield context.ok(MEMORY, f"{evidence}; servers that choose their blocks look themselves")
    else:
        need = sum(_bytes(context, stage, there) for stage in on_cpu)
        evidence = f"{evidence}; the blocks of its servers take {size(need)}"
        remedy = (
            f"give {context.host} fewer blocks (fleet.model.splits), or set fleet.serving.dtype to "
            "bfloat16"
        )
        if need > found.total:
            yield context.fail(MEMORY, evidence, remedy)
        elif need > _MOST_OF_MEMORY * found.total:
            yield context.warn(MEMORY, evidence, remedy)
        else:
            yield context.ok(MEMORY, evidence)


def _bytes(context: Context, stage: Stage, there: ModelFiles) -> float:
    """Return what a server's tensors take, in the number format that it computes in."""
    if stage.span is None:
        return 0
    wanted = _BYTES_OF.get(context.fleet.serving.dtype, 0)
    factor = wanted / _BYTES_OF[there.dtype] if wanted and there.dtype in _BYTES_OF else 1
    own = sum(there.blocks[stage.span.start : stage.span.end])
    own += there.edges[0] if stage.stage == 0 else 0
    own += there.edges[1] if stage.span.end == len(there.blocks) else 0
    return own * factor
