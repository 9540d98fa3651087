"""The engine kernel against vLLM's own scheduler: the same requests must get the same schedule, step by step."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from drawn_loads import Load, draw_load, own_token, prompt_of, with_priorities, with_shared_prefixes

from autoscaler.simulator.cost_model import StepCosts
from autoscaler.simulator.engine_invariants import check_engine
from autoscaler.simulator.engine_kernel import add_request, begin_step, complete_step
from autoscaler.simulator.engine_state import Engine, EngineLimits, empty_engine
from autoscaler.simulator.prompt_texts import prompt_texts
from testbed.tiny_model import make_tiny_model

pytestmark = pytest.mark.vllm
pytest.importorskip("vllm", reason="vLLM is not installed; make test-vllm installs it")

LOADS_WITH_PREFIX_CACHE = 40
LOADS_WITH_OPTIONS = 40
A_SECOND_A_STEP = StepCosts(fixed_s=1.0, **dict.fromkeys(StepCosts._fields[1:], 0.0))


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model that vLLM accepts; its weights are never made."""
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", VLLM_CPU_KVCACHE_SPACE="1")
    folder = tmp_path_factory.mktemp("model") / "tiny"
    make_tiny_model(folder)
    return folder


def vllm_scheduler(load: Load, model: Path) -> Any:
    """vLLM's scheduler with the limits of `load`, as its engine would make it, but with no engine."""
    import torch
    from vllm.config import CacheConfig, ModelConfig, SchedulerConfig, VllmConfig
    from vllm.v1.core.sched.scheduler import Scheduler
    from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
    from vllm.v1.structured_output import StructuredOutputManager

    length = load.max_model_tokens
    cache = CacheConfig(block_size=load.block_tokens, enable_prefix_caching=load.prefix is not None)
    cache.num_gpu_blocks = load.blocks
    config = VllmConfig(
        model_config=ModelConfig(model=str(model), tokenizer=str(model), dtype="float32", max_model_len=length),
        scheduler_config=SchedulerConfig(
            max_num_seqs=load.max_sequences,
            max_num_batched_tokens=load.max_batched_tokens,
            max_model_len=length,
            enable_chunked_prefill=True,
            is_encoder_decoder=False,
            async_scheduling=False,
            policy="fcfs" if load.priorities is None else "priority",
            watermark=load.watermark_fraction,
        ),
        cache_config=cache,
    )
    attention = FullAttentionSpec(block_size=load.block_tokens, num_kv_heads=1, head_size=1, dtype=torch.float32)
    return Scheduler(
        vllm_config=config,
        kv_cache_config=KVCacheConfig(
            num_blocks=load.blocks, kv_cache_tensors=[], kv_cache_groups=[KVCacheGroupSpec(["layer"], attention)]
        ),
        log_stats=False,
        structured_output_manager=StructuredOutputManager(config),
        block_size=load.block_tokens,
        hash_block_size=load.block_tokens,
    )


Step = tuple[dict[int, int], int, int, int, list[int], list[int]]


def schedule_of_vllm(load: Load, model: Path, steps: int) -> list[Step]:
    """Of each step: tokens by request, running, waiting, free blocks, computed tokens and preempted requests.

    The model is played by tokens that no other request has.
    """
    from vllm.sampling_params import SamplingParams
    from vllm.utils.hashing import sha256
    from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
    from vllm.v1.outputs import ModelRunnerOutput
    from vllm.v1.request import Request

    init_none_hash(sha256)
    hasher = None if load.prefix is None else get_request_block_hasher(load.block_tokens, sha256)
    scheduler, schedule = vllm_scheduler(load, model), []
    for step in range(steps):
        for number, (arrival, _, output_tokens) in enumerate(load.requests):
            if arrival == step:
                asked = SamplingParams(max_tokens=output_tokens, ignore_eos=True)
                priority = 0 if load.priorities is None else load.priorities[number]
                scheduler.add_request(
                    Request(
                        str(number),
                        prompt_of(load, number),
                        asked,
                        None,
                        arrival_time=number,
                        block_hasher=hasher,
                        priority=priority,
                    )
                )
        preempted: list[int] = []
        while True:
            output = scheduler.schedule()
            preempted += (int(name) for name in output.preempted_req_ids or ())
            if output.num_scheduled_tokens or not output.preempted_req_ids:
                break
            # nobody got tokens: the first of the running requests gave up its own blocks; the kernel goes on at once
            scheduler.update_from_output(output, ModelRunnerOutput([], {}, []))
        schedule.append(
            (
                {int(name): tokens for name, tokens in output.num_scheduled_tokens.items()},
                len(scheduler.running),
                len(scheduler.waiting),
                scheduler.kv_cache_manager.block_pool.get_num_free_blocks(),
                [request.num_computed_tokens for request in scheduler.running],
                sorted(preempted),
            )
        )
        names = list(output.num_scheduled_tokens)
        at_work = [scheduler.requests[name] for name in names]
        tokens = [
            [own_token(int(request.request_id))] if request.num_computed_tokens >= request.num_tokens else []
            for request in at_work
        ]
        places = {name: place for place, name in enumerate(names)}
        made = ModelRunnerOutput(req_ids=names, req_id_to_index=places, sampled_token_ids=tokens)
        scheduler.update_from_output(output, made)
    assert not scheduler.running
    assert not scheduler.waiting
    return schedule


def requests_running(engine: Engine) -> list[int]:
    """In order of admission."""
    return [engine.slots[index].request for index in engine.running_slots[: engine.state.running]]


def limits_of(load: Load) -> EngineLimits:
    """The engine of `load`, as the kernel takes it."""
    return EngineLimits(
        load.blocks - 1, load.block_tokens, load.max_sequences, load.max_batched_tokens, load.max_model_tokens
    )


def schedule_of_kernel(load: Load) -> list[Step]:
    """The same of the engine kernel, until it has nothing left to do."""
    limits = EngineLimits(
        load.blocks - 1,
        load.block_tokens,
        load.max_sequences,
        load.max_batched_tokens,
        load.max_model_tokens,
        watermark_blocks=int(load.watermark_fraction * load.blocks),
    )
    texts = None if load.prefix is None else prompt_texts(load.prefix)
    engine = empty_engine(len(load.requests), limits, texts)
    schedule: list[Step] = []
    state, last_arrival = engine.state, load.requests[-1][0]
    while len(schedule) <= last_arrival or state.running + state.waiting > 0:
        for number, (arrival, prompt_tokens, output_tokens) in enumerate(load.requests):
            if arrival == len(schedule):
                rank = 0.0 if load.priorities is None else float(load.priorities[number])
                add_request(engine, number, prompt_tokens, output_tokens, rank)
        before = requests_running(engine)
        begin_step(engine, limits, A_SECOND_A_STEP)
        at_work = [engine.slots[index] for index in engine.running_slots[: state.running]]
        tokens = {slot.request: slot.scheduled_tokens for slot in at_work if slot.scheduled_tokens > 0}
        computed = [slot.computed_tokens + slot.scheduled_tokens for slot in at_work]
        preempted = sorted(set(before) - set(requests_running(engine)))
        schedule.append((tokens, state.running, state.waiting, state.free_blocks, computed, preempted))
        check_engine(engine, limits)
        complete_step(engine)
    return schedule


def assert_schedules_are_equal(load: Load, model: Path) -> tuple[int, int]:
    """Compare every step; how many there were, and how many preemptions."""
    ours = schedule_of_kernel(load)
    theirs = schedule_of_vllm(load, model, len(ours))
    for step, (mine, real) in enumerate(zip(ours, theirs, strict=True)):
        assert mine == real, f"step {step} of {load}: tokens, running, waiting, free blocks, computed, preempted"
    return len(ours), sum(len(step[-1]) for step in ours)


def test_the_schedule_is_that_of_vllm_step_by_step_with_room_and_without(tiny_model: Path) -> None:
    preempted = sum(assert_schedules_are_equal(draw_load(seed), tiny_model)[1] for seed in range(12))
    assert preempted > 10, "the loads are meant to be tight enough to preempt"


def test_with_a_prefix_cache_too_the_schedule_is_that_of_vllm_step_by_step(tiny_model: Path) -> None:
    preempted = 0
    for seed in range(LOADS_WITH_PREFIX_CACHE):
        load = with_shared_prefixes(draw_load(seed), seed)
        preempted += assert_schedules_are_equal(load, tiny_model)[1]
    assert preempted > 10, "the loads are meant to be tight enough to preempt"


def test_with_priorities_too_the_schedule_is_that_of_vllm_step_by_step(tiny_model: Path) -> None:
    preempted = 0
    for seed in range(LOADS_WITH_OPTIONS):
        load = with_priorities(draw_load(seed), seed)
        load = with_shared_prefixes(load, seed) if seed % 2 else load
        preempted += assert_schedules_are_equal(load, tiny_model)[1]
    assert preempted > 10, "the loads are meant to be tight enough to preempt"


def test_with_a_watermark_too_the_schedule_is_that_of_vllm_step_by_step(tiny_model: Path) -> None:
    for seed in range(LOADS_WITH_OPTIONS):
        load = replace(draw_load(seed), watermark_fraction=[0.01, 0.1, 0.3][seed % 3])
        load = with_shared_prefixes(load, seed) if seed % 2 else load
        assert_schedules_are_equal(with_priorities(load, seed) if seed % 5 == 0 else load, tiny_model)


def test_a_step_log_of_vllm_counts_steps_as_the_kernel_does(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefill tokens and context, decodes and KV tokens: what the cost model is fitted to is what it is asked later."""
    from autoscaler.profile_fit.step_log import STEP_LOG_VARIABLE, read_step_log
    from serve_app.engines.step_log import StepLogScheduler

    monkeypatch.setattr("vllm.v1.core.sched.scheduler.Scheduler", StepLogScheduler)
    for seed in range(8):
        load, path = draw_load(seed), tmp_path / f"{seed}.jsonl"
        monkeypatch.setenv(STEP_LOG_VARIABLE, str(path))
        counted = counts_of_kernel(load)
        schedule_of_vllm(load, tiny_model, len(counted))
        log = read_step_log(path)
        assert log.header.limits() == limits_of(load)
        columns = [log.column(name) for name in ("prefill_tokens", "prefill_context", "decodes", "kv_tokens")]
        assert list(zip(*(column.tolist() for column in columns), strict=True)) == [
            step for step in counted if any(step)
        ]


def counts_of_kernel(load: Load) -> list[tuple[float, float, float, float]]:
    """What the cost model is given of each step, empty steps included."""
    limits = limits_of(load)
    engine = empty_engine(len(load.requests), limits)
    counted: list[tuple[float, float, float, float]] = []
    state, last_arrival = engine.state, load.requests[-1][0]
    while len(counted) <= last_arrival or state.running + state.waiting > 0:
        for number, (arrival, prompt_tokens, output_tokens) in enumerate(load.requests):
            if arrival == len(counted):
                add_request(engine, number, prompt_tokens, output_tokens)
        begin_step(engine, limits, A_SECOND_A_STEP)
        counted.append(
            (state.step_prefill_tokens, state.step_prefill_context, state.step_decodes, state.step_kv_tokens)
        )
        complete_step(engine)
    return counted
