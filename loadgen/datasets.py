"""The public traces that can be fetched: their official files, sizes, hashes, licences."""

from dataclasses import dataclass

from loadgen.errors import InputError


@dataclass(frozen=True, slots=True)
class DatasetFile:
    """One published file.

    Attributes:
        name: under which it is kept.
        size_bytes, sha256: of the published file; None = not known.
        also_sha256: of other editions with the same rows, for a file that was put in place by hand.
    """

    name: str
    url: str
    size_bytes: int | None = None
    sha256: str | None = None
    also_sha256: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Dataset:
    """A published trace of one or more files; `main` names those that are fetched unless others are asked for."""

    name: str
    about: str
    licence: str
    page: str
    files: tuple[DatasetFile, ...]
    main: tuple[str, ...]

    def file(self, name: str) -> DatasetFile:
        """The file of this name.

        Raises:
            InputError: there is none; lists those there are.
        """
        for file in self.files:
            if file.name == name:
                return file
        names = ", ".join(file.name for file in self.files)
        raise InputError(f"dataset '{self.name}' has no file '{name}'; it has {names}")


_BURSTGPT = "https://github.com/HPMLL/BurstGPT/releases/download/v2.0/"
# The commit that put the two files of 2023 in place, so that they and their hashes can't part.
_AZURE_2023 = (
    "https://raw.githubusercontent.com/Azure/AzurePublicDataset/790921015d50dd6aae7f7e47f39ba0e235ad6b08/data/"
)
# As AzureLLMInferenceDataset2024Links.txt says since the files moved there from Azure's blob storage.
_AZURE_2024 = "https://github.com/Azure/AzurePublicDataset/releases/download/dataset-llm-2024/"
_MOONCAKE = (
    "https://raw.githubusercontent.com/kvcache-ai/Mooncake/3cca71daccf2a7afb8fe3f0295358f70e3a69fdb/"
    "FAST25-release/traces/"
)

# Sizes and hashes are those that users of the files have published; where they name a source, it is GitHub's digest of
# the release file. Each hash was found in two or more unrelated places, but for BurstGPT_2.csv's: in one, which agrees
# with others on the other five. AzureLLMInferenceTrace_conv.csv and conversation_trace.jsonl were also hashed for this
# table. BurstGPT_1.csv: the repository's own copy has 50,853,373 bytes and the hash under `also_sha256`; the release's
# has one byte more for each of its 1,429,738 lines, which therefore end in CRLF.
DATASETS: dict[str, Dataset] = {
    "burstgpt": Dataset(
        name="burstgpt",
        about="ChatGPT and GPT-4 in a region of Azure: files 1 and 2 are 121 days, file 3 is 110 more, with sessions",
        licence="CC BY 4.0",
        page="https://github.com/HPMLL/BurstGPT/releases/tag/v2.0",
        files=(
            DatasetFile(
                "BurstGPT_1.csv",
                _BURSTGPT + "BurstGPT_1.csv",
                52_283_111,
                "4bb3783693d0a435686fbfc885615d2349bd067239079fa4b749f2e679e12122",
                ("46fc9480ef0b748ecb2b51d512ff08c196b031782cbe6f78e28044d768e86d5a",),
            ),
            DatasetFile(
                "BurstGPT_2.csv",
                _BURSTGPT + "BurstGPT_2.csv",
                144_819_209,
                "44bf5942b03fca42c01a226a545ad3a750ec62688faecd67b6831c56a8928bf7",
            ),
            DatasetFile(
                "BurstGPT_3.csv",
                _BURSTGPT + "BurstGPT_3.csv",
                231_682_327,
                "2299986a07388aa303ec2c41d1131e756db650a39ed6ef9dfe7cc3d7f9a43b8f",
            ),
            DatasetFile(
                "BurstGPT_without_fails_1.csv",
                _BURSTGPT + "BurstGPT_without_fails_1.csv",
                51_429_517,
                "a4d068a7113ec0290e74063a1b3447dc6001a30e4298eb313581b71006dda1f4",
            ),
            DatasetFile(
                "BurstGPT_without_fails_2.csv",
                _BURSTGPT + "BurstGPT_without_fails_2.csv",
                142_376_815,
                "56193aa9b2bb26128ded43d2d29a960df6bf5af062bcfc9b005f3fcaa4e6e501",
            ),
            DatasetFile(
                "BurstGPT_without_fails_3.csv",
                _BURSTGPT + "BurstGPT_without_fails_3.csv",
                217_312_026,
                "3326259f9efb11845bc5ef85fa97e6f691050b0974621c91ef22acd566c43a40",
            ),
        ),
        main=("BurstGPT_1.csv", "BurstGPT_2.csv"),
    ),
    "azure2023": Dataset(
        name="azure2023",
        about="one hour of two LLM services of Azure, conversation and code, in November 2023",
        licence="CC BY 4.0",
        page="https://github.com/Azure/AzurePublicDataset/blob/master/AzureLLMInferenceDataset2023.md",
        files=(
            DatasetFile(
                "AzureLLMInferenceTrace_conv.csv",
                _AZURE_2023 + "AzureLLMInferenceTrace_conv.csv",
                719_188,
                "2f1e5b666d4e3055fdbba98598ce2ec307767b9064e03e2fa46676dbcc7d0bf8",
            ),
            DatasetFile(
                "AzureLLMInferenceTrace_code.csv",
                _AZURE_2023 + "AzureLLMInferenceTrace_code.csv",
                None,
                "54e9a6d2a4bd06ba1e060304b900abbc74cbea53de96506e60fe5bb4f2277fb6",
            ),
        ),
        main=("AzureLLMInferenceTrace_conv.csv", "AzureLLMInferenceTrace_code.csv"),
    ),
    "azure2024": Dataset(
        name="azure2024",
        about="one week of two LLM services of Azure, conversation (27.3 M requests) and code (16.8 M), in May 2024",
        licence="CC BY 4.0",
        page="https://github.com/Azure/AzurePublicDataset/blob/master/AzureLLMInferenceDataset2024.md",
        files=(
            DatasetFile(
                "AzureLLMInferenceTrace_conv_1week.csv",
                _AZURE_2024 + "AzureLLMInferenceTrace_conv_1week.csv",
                1_135_195_393,
                "a0cc9b969a9bbf0fd811802cbf4323edd3a209ace791e3799ad4f9207f213941",
            ),
            DatasetFile(
                "AzureLLMInferenceTrace_code_1week.csv",
                _AZURE_2024 + "AzureLLMInferenceTrace_code_1week.csv",
                691_989_454,
                "71de5c55cbc35f8f1ed0b6b7806b4cd1e9764b0058469725a6aac98023a1448f",
            ),
        ),
        main=("AzureLLMInferenceTrace_conv_1week.csv", "AzureLLMInferenceTrace_code_1week.csv"),
    ),
    "mooncake": Dataset(
        name="mooncake",
        about="one hour of Kimi's conversation and of its tool-and-agent traffic, with the hashes of prompt blocks",
        licence="Apache-2.0",
        page="https://github.com/kvcache-ai/Mooncake/tree/main/FAST25-release",
        files=(
            DatasetFile(
                "conversation_trace.jsonl",
                _MOONCAKE + "conversation_trace.jsonl",
                3_029_533,
                "b8cbb061a85206d729d91cdc2981f43c9e0d99209dce588d3af5f7934408b9df",
            ),
            DatasetFile(
                "toolagent_trace.jsonl",
                _MOONCAKE + "toolagent_trace.jsonl",
                None,
                "48a2db1a13d3bc05e6330140c64f604ba366df20d3c9e128b5c35a01c1fa5f71",
            ),
            DatasetFile(
                "synthetic_trace.jsonl",
                _MOONCAKE + "synthetic_trace.jsonl",
                None,
                "bd070915a98fc0ed264d7cfef2ce746002eb3076a695ec31ba2674c0111ec131",
            ),
        ),
        main=("conversation_trace.jsonl", "toolagent_trace.jsonl"),
    ),
}


def find_dataset(name: str) -> Dataset:
    """The dataset of this name.

    Raises:
        InputError: there is none; lists those there are.
    """
    if name not in DATASETS:
        raise InputError(f"unknown dataset '{name}'; known: {', '.join(DATASETS)}")
    return DATASETS[name]
