"""The whole loop on real vLLM: the Azure trace, two replicas and more, tokens that vLLM generated."""

import pytest
import yaml

from testbed.results import Results, read_results
from tests.testbed.command import ROOT, burstscale_process

AZURE = ROOT.parent / "shared/data/traces/azure_2023/AzureLLMInferenceTrace_conv.csv"
# A second replica takes about 25 s on a quiet machine, longer while two cores also serve: time for it to come and to
# help. A third that starts at the same time would hold both up.
LIMIT_S, MOST_REPLICAS = 150.0, 2

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1200)]
pytest.importorskip("vllm", reason="vLLM is not installed: make test-vllm installs it")


@pytest.fixture(scope="module")
def vllm_run(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The tiny model made, and the trace replayed against it, as a newcomer would type it."""
    if not AZURE.exists():
        pytest.skip(f"the Azure trace is not here ({AZURE.name}; see README)")
    folder = tmp_path_factory.mktemp("vllm")
    (folder / "configs").symlink_to(ROOT / "configs")
    made = burstscale_process("tiny-model", "models/tiny-llama", cwd=folder)
    assert made.returncode == 0, made.stderr
    served = yaml.safe_load((ROOT / "configs/serve/vllm_cpu.yaml").read_text())
    served["applications"][0]["args"]["fleet"]["max_replicas"] = MOST_REPLICAS
    (folder / "serve.yaml").write_text(yaml.safe_dump(served))
    experiment = ("configs/experiments/azure_conv_vllm_cpu.yaml", "--serve", "serve.yaml")
    traffic = ("--trace", AZURE, "--limit-s", f"{LIMIT_S}")
    done = burstscale_process("run", *experiment, *traffic, "-o", "out", cwd=folder, timeout_s=1000)
    assert done.returncode == 0, done.stderr
    return read_results(folder / "out")


def test_there_is_one_record_for_each_request_and_nearly_all_are_ok(vllm_run: Results) -> None:
    records = vllm_run.records
    assert vllm_run.complete
    assert len(records) == vllm_run.environment["trace"]["requests"] > 500
    causes = records.groupby(["status", "cause"], dropna=False).size()
    assert (records["status"] == "ok").mean() > 0.8, causes


def test_two_replicas_served_at_the_peak(vllm_run: Results) -> None:
    assert vllm_run.summary is not None
    assert vllm_run.summary["fleet"]["peak_ready_replicas"] == MOST_REPLICAS
    assert vllm_run.records["replica_id"].nunique() >= 2


def test_the_tokens_were_generated_by_vllm(vllm_run: Results) -> None:
    """vLLM's own step statistics count at least the tokens that the clients received."""
    received = int(vllm_run.records.loc[vllm_run.records["status"] == "ok", "output_tokens"].sum())
    generated = int(vllm_run.engine["output_tokens"].sum())
    assert 0 < received <= generated * 1.02  # the last interval of a replica that ends may go unreported
    assert vllm_run.environment["packages"]["vllm-cpu"] == "0.29.0"
