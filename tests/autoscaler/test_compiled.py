"""Compiled code on disk must never be older than the sources that it was made from."""

import os
from pathlib import Path

from autoscaler.simulator.compiled import drop_outdated_code


def test_code_compiled_before_the_newest_source_is_deleted_and_the_rest_is_kept(tmp_path: Path) -> None:
    folder, rules = tmp_path / "simulator", tmp_path / "policies"
    cache = folder / "__pycache__"
    cache.mkdir(parents=True)
    rules.mkdir()
    for path, changed_s in {rules / "rule.py": 100, folder / "caller.py": 50}.items():
        path.touch()
        os.utime(path, (changed_s, changed_s))
    for name, compiled_s in {"caller.old.nbi": 60, "caller.new.nbi": 150, "caller.cpython.pyc": 60}.items():
        (cache / name).touch()
        os.utime(cache / name, (compiled_s, compiled_s))
    drop_outdated_code(folder, (rules / "rule.py", folder / "caller.py"))
    assert sorted(path.name for path in cache.iterdir()) == ["caller.cpython.pyc", "caller.new.nbi"]


def test_a_folder_that_was_never_compiled_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "kernel.py").touch()
    drop_outdated_code(tmp_path, (tmp_path / "kernel.py",))
    assert [path.name for path in tmp_path.iterdir()] == ["kernel.py"]
