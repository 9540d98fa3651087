"""The table of what can be fetched is true to the published files."""

import hashlib
import re
from pathlib import Path

import pytest

from loadgen.datasets import DATASETS, find_dataset
from loadgen.errors import InputError

SHARED = Path(__file__).parents[2] / "../shared/data/traces"


def test_every_dataset_names_files_that_can_be_told_apart_and_checked() -> None:
    for name, dataset in DATASETS.items():
        assert dataset.name == name
        names = [file.name for file in dataset.files]
        assert len(set(names)) == len(names)
        assert set(dataset.main) <= set(names)
        for file in dataset.files:
            assert file.url.startswith("https://")
            assert file.url.endswith(f"/{file.name}")
            assert file.sha256 is not None
            assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)


@pytest.mark.parametrize(
    ("dataset", "path"),
    [
        ("azure2023", "azure_2023/AzureLLMInferenceTrace_conv.csv"),
        ("mooncake", "mooncake_fast25/conversation_trace.jsonl"),
    ],
)
def test_the_tables_size_and_hash_are_those_of_the_real_file(dataset: str, path: str) -> None:
    real = SHARED / path
    if not real.exists():
        pytest.skip(f"needs {real}")
    file = DATASETS[dataset].file(real.name)
    assert file.size_bytes == real.stat().st_size
    assert file.sha256 == hashlib.sha256(real.read_bytes()).hexdigest()


def test_unknown_datasets_and_files_are_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="unknown dataset 'sharegpt'; known: burstgpt, azure2023"):
        find_dataset("sharegpt")
    with pytest.raises(InputError, match=r"has no file .BurstGPT_4\.csv.; it has BurstGPT_1\.csv, "):
        find_dataset("burstgpt").file("BurstGPT_4.csv")
