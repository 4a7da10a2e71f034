"""Flags of the tiny config on several meshes."""

WIDE = "--config.networks.teacher.widths=(256,128)", "--config.networks.student.widths=(64,)"
STREAMED = "--config.data.resident=no"
MESHES = {
    "data": ("--config.sharding=()",),
    "fsdp": ("--config.mesh.data=1", "--config.mesh.fsdp=8", "--config.sharding=fsdp:64"),
    "mixed": (
        *("--config.mesh.data=2", "--config.mesh.fsdp=2", "--config.mesh.tensor=2"),
        "--config.sharding=('tensor', 'fsdp:64')",
        "--config.networks.teacher.sharding=('fsdp:64',)",
    ),
}
