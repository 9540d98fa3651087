"""The load that an engine is measured with, and what is told of its steps from outside."""

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.interface import HardwareProfile
from autoscaler.simulator.cost_model import load_hardware, step_duration_s
from autoscaler.simulator.engine import EngineStepper
from autoscaler.simulator.engine_state import EngineLimits
from loadgen.errors import InputError
from testbed.client_steps import client_steps
from testbed.designed_load import LoadPiece, PieceTimes, designed_load, drive_piece
from testbed.engine_load import TokenTimes

LIMITS = EngineLimits(
    usable_blocks=255, block_tokens=128, max_sequences=32, max_batched_tokens=512, max_model_tokens=2048
)


@settings(max_examples=50, deadline=None)
@given(
    st.builds(
        EngineLimits,
        usable_blocks=st.integers(64, 5000),
        block_tokens=st.sampled_from([16, 128]),
        max_sequences=st.integers(1, 1024),
        max_batched_tokens=st.integers(64, 8192),
        max_model_tokens=st.integers(512, 16384),
    ),
    st.floats(100, 1e7),
)
def test_every_piece_fits_the_engine_at_once(limits: EngineLimits, prompt_tokens: float) -> None:
    pieces = designed_load(limits, prompt_tokens)
    assert pieces
    for piece in pieces:
        requests = [*piece.decoding, *((tokens, 1) for tokens in piece.prompts[:1])]
        assert len(requests) <= limits.max_sequences
        assert sum(-(-sum(request) // limits.block_tokens) for request in piece.decoding) <= limits.usable_blocks
        assert max(prompt + output for prompt, output in requests) <= limits.longest_request_tokens


def test_a_long_round_has_every_kind_of_step_up_to_the_engines_limits() -> None:
    pieces = designed_load(LIMITS, 1e9)
    prefills = {tokens for piece in pieces if not piece.decoding for tokens in piece.prompts}
    assert {16, 128, 512, 2047} <= prefills
    assert {len(piece.decoding) for piece in pieces if not piece.prompts} == {1, 4, 16, 32}
    mixed = {(len(piece.decoding), tokens) for piece in pieces if piece.decoding for tokens in piece.prompts}
    assert {(1, 32), (4, 508), (31, 481)} <= mixed


def test_a_short_round_leaves_out_the_largest_pieces() -> None:
    short, long = designed_load(LIMITS, 3000), designed_load(LIMITS, 1e9)
    assert sum(piece.prompt_tokens for piece in short) <= 3000
    assert short == long[: len(short)]
    assert any(piece.decoding and piece.prompts for piece in short), "mixed steps too"


async def test_prompts_are_sent_when_all_decoding_requests_have_begun() -> None:
    said: list[str] = []

    async def generate(prompt_tokens: int, output_tokens: int) -> AsyncIterator[int]:
        said.append(f"sent {prompt_tokens}")
        for tokens in range(1, output_tokens + 1):
            await asyncio.sleep(0)
            if tokens == 1:
                said.append(f"began {prompt_tokens}")
            yield tokens

    times = await drive_piece(generate, LoadPiece(((10, 50), (20, 50)), (30, 40)))
    assert said[:2] == ["sent 10", "sent 20"]
    assert said.index("sent 30") > max(said.index("began 10"), said.index("began 20"))
    assert said.index("sent 40") > said.index("began 30")
    assert [one.came[-1][1] for one in (*times.decoding, *times.prompts)] == [50, 50, 1, 1]


async def test_an_engine_that_answers_nothing_is_one_line_of_error() -> None:
    async def generate(prompt_tokens: int, output_tokens: int) -> AsyncIterator[int]:
        for tokens in range(0 if prompt_tokens == 20 else output_tokens):
            yield tokens + 1

    with pytest.raises(InputError, match="answered 20 tokens with none"):
        await drive_piece(generate, LoadPiece(((10, 5), (20, 5)), (30,)))


def play(piece: LoadPiece, hardware: HardwareProfile) -> PieceTimes:
    """The piece on the engine kernel, on a virtual clock; what a client without any delay would note."""
    stepper, now_s = EngineStepper(hardware), 0.0
    sent: dict[int, float] = {}
    came: dict[int, list[tuple[float, int]]] = {}
    waiting = list(piece.prompts)
    for number, request in enumerate(piece.decoding):
        stepper.add(number, *request)
        sent[number] = 0.0
    last = len(piece.decoding) - 1
    while True:
        if waiting and all(number in came for number in range(last + 1)):
            last += 1
            stepper.add(last, waiting.pop(0), 1)
            sent[last] = now_s
        if (step := stepper.step()) is None:
            break
        now_s += step.duration_s
        for number, tokens in step.tokens:
            came.setdefault(number, []).append((now_s, tokens))
    times = [TokenTimes(sent[number], came[number]) for number in range(last + 1)]
    return PieceTimes(piece, times[: len(piece.decoding)], times[len(piece.decoding) :])


def test_steps_that_a_client_tells_apart_are_those_that_the_engine_did() -> None:
    hardware = load_hardware("rtx4090-llama-3-8b")
    pieces = [
        LoadPiece((), (64, 512)),
        LoadPiece(((256, 8),) * 4, ()),
        LoadPiece(((100, 40),) * 8, (32, 480)),
        LoadPiece((), (4000,)),  # in chunks: no single step
    ]
    table = client_steps([play(piece, hardware) for piece in pieces], 2048, null_s=0.0).table
    rows = zip(table.prefill_tokens, table.decodes, table.kv_tokens, table.duration_s, strict=True)
    for prefill_tokens, decodes, kv_tokens, duration_s in rows:
        contexts = (int(kv_tokens // decodes),) * int(decodes) if decodes else ()
        chunks = ((int(prefill_tokens), 0),) if prefill_tokens else ()
        assert duration_s == pytest.approx(step_duration_s(hardware, chunks, contexts), rel=1e-3)
    assert sorted(table.prefill_tokens[table.is_prefill]) == [64, 512]
    assert table.decodes[table.is_decode].tolist() == [4.0] * 7
    assert sorted(table.prefill_tokens[table.is_mixed]) == [32, 480]


def test_the_time_between_steps_is_not_told_from_outside() -> None:
    hardware = load_hardware("rtx4090-llama-3-8b")
    steps = client_steps([play(LoadPiece(((256, 8),) * 4, ()), hardware)], 2048, null_s=0.0)
    assert steps.host_s == 0.0
    assert steps.host_s_range[1] == pytest.approx(np.quantile(steps.table.duration_s, 0.1))


def test_a_server_that_sends_no_single_tokens_is_told_so() -> None:
    times = TokenTimes(0.0, [(1.0, 8), (2.0, 16)])
    with pytest.raises(InputError, match="want --stream-interval 1"):
        client_steps([PieceTimes(LoadPiece(((16, 16),), ()), [times], [])], 2048, null_s=0.0)
