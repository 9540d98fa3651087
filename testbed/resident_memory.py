"""How much memory this process holds (Linux)."""

from pathlib import Path


def resident_bytes(kind: str) -> int:
    """Resident memory of this process: VmRSS = now, VmHWM = the most so far."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status does not say {kind}")
