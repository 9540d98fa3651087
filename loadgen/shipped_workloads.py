"""The workload models in configs/workloads, by name."""

from pathlib import Path

from loadgen.errors import InputError

WORKLOAD_FOLDER = Path(__file__).parents[1] / "configs" / "workloads"


def shipped_workloads() -> dict[str, Path]:
    """The files in configs/workloads by the name that finds them, sorted."""
    return {path.stem: path for path in sorted(WORKLOAD_FOLDER.glob("*.yaml"))}


def find_workload(name_or_path: str | Path) -> Path:
    """The file of a workload model that is given by its name in configs/workloads or by its path.

    Raises:
        InputError: there is no such name; lists those there are. Whether a path exists is seen when it is read.
    """
    text = str(name_or_path)
    if text.endswith((".yaml", ".yml")) or "/" in text:
        return Path(text)
    shipped = shipped_workloads()
    if text not in shipped:
        raise InputError(f"unknown workload '{text}'; known: {', '.join(shipped)}, or give a path to a YAML")
    return shipped[text]


def is_workload(given: Path) -> bool:
    """Whether this stands for a workload model, not for a trace: by its ending, or as a shipped one's name."""
    return given.suffix in (".yaml", ".yml") or (str(given) in shipped_workloads() and not given.exists())


def workload_summary(path: Path) -> str:
    """The first sentence of the comment that opens a workload model's file; empty where there is none."""
    comment = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        comment.append(line.removeprefix("#").strip())
    text = " ".join(comment)
    return text.split(". ")[0].rstrip(".") + "." if text else ""
