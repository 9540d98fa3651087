"""Prompts of real text have exactly the tokens that were asked for, whatever is in the texts."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.prefix import PrefixBlocks
from loadgen.prompts.additive_words import find_lexicon
from loadgen.prompts.dataset import DatasetPrompts
from loadgen.prompts.lexicon import Lexicon
from loadgen.prompts.pool import TextPool, read_pool
from loadgen.prompts.tokenizer import Tokenizer, WordTokenizer
from loadgen.trace import Service, Trace, make_trace

Ids = Callable[[str], list[int]]

NASTY = (
    "Schreib mir bitte ein Gedicht über Äpfel & Birnen — 120 Zeilen, ja?",
    "def f(x):\n    if x  >  3:\n\t\treturn [x]*2\n\n\n# done   \n\n" * 4,
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467\U0001f1e9\U0001f1ea" * 30,
    "请写一首关于山和河的诗。" * 20,
    "<begin><end><unk></s> [UNK] <|endoftext|>",
    "a\u0301e\u0301" * 40,
    "      \u00a0\u3000x" * 30,
    "\n\n\n".join("word" * k for k in range(1, 30)),
)


@pytest.fixture
def nasty(tokenizer: Tokenizer, lexicon: Lexicon, conversations: Callable[..., Path]) -> DatasetPrompts:
    return DatasetPrompts(read_pool(conversations(*NASTY), tokenizer), tokenizer, lexicon)


def api_trace(
    prompt_tokens: Sequence[int],
    output_tokens: Sequence[int] | int = 1,
    session: Sequence[int] | None = None,
    prefix: PrefixBlocks | None = None,
) -> Trace:
    """API requests, one a second."""
    return make_trace(
        "t",
        np.arange(len(prompt_tokens), dtype=float),
        np.array(prompt_tokens),
        np.broadcast_to(np.array(output_tokens), len(prompt_tokens)),
        duration_s=len(prompt_tokens) + 1.0,
        service=Service.API,
        session=None if session is None else np.array(session),
        prefix=prefix,
    )


def texts(prompts: DatasetPrompts, trace: Trace, seed: int = 1) -> list[str]:
    return list(prompts.texts(trace, range(len(trace)), seed))


def of_words(folder_of: Callable[..., Path], *given_texts: str) -> DatasetPrompts:
    """Prompts of these texts, counted in words."""
    counting = WordTokenizer()
    return DatasetPrompts(read_pool(folder_of(*given_texts), counting), counting, find_lexicon(counting))


def test_every_length_is_exact_with_every_text(nasty: DatasetPrompts, ids_of: Ids) -> None:
    wanted = [*range(12, 150), *range(150, 3000, 371), 8000]
    assert [len(ids_of(text)) for text in texts(nasty, api_trace(wanted))] == wanted


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_texts_of_any_session_are_exact_and_go_on_where_the_rule_says(
    tokenizer: Tokenizer, lexicon: Lexicon, ids_of: Ids, data: st.DataObject
) -> None:
    pa = pytest.importorskip("pyarrow")
    drawn = data.draw(st.lists(st.text(min_size=1, max_size=80).map(str.strip), min_size=1, max_size=8))
    counted = sorted((tokens, text) for text, tokens in zip(drawn, tokenizer.counts(drawn), strict=True) if tokens)
    if not counted:
        return
    pool = TextPool(pa.array([text for _, text in counted], pa.large_string()), np.array([n for n, _ in counted]))
    turns = data.draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(12, 400), st.integers(8, 60)), min_size=1, max_size=6)
    )
    session, prompt_tokens, output_tokens = zip(*turns, strict=True)
    found = texts(DatasetPrompts(pool, tokenizer, lexicon), api_trace(prompt_tokens, output_tokens, session))
    assert [len(ids_of(text)) for text in found] == list(prompt_tokens)
    latest: dict[int, int] = {}
    for row, (of, tokens, _) in enumerate(turns):
        if of in latest and tokens >= turns[latest[of]][1] + turns[latest[of]][2]:
            assert found[row].startswith(found[latest[of]])
        latest[of] = row


def test_a_prompt_is_the_beginning_of_the_text_that_fits_best(conversations: Callable[..., Path]) -> None:
    prompts = of_words(conversations, "one two three", "un deux trois quatre cinq", "eins zwei")
    assert texts(prompts, api_trace([4, 2, 3])) == ["un deux trois quatre", "eins zwei", "one two three"]


def test_shorter_texts_are_joined_where_none_is_long_enough(conversations: Callable[..., Path]) -> None:
    prompts = of_words(conversations, "one two three", "un deux", "eins")
    assert texts(prompts, api_trace([5, 6])) == ["one two three\n\nun deux", "eins\n\none two three\n\nun deux"]


def test_no_text_comes_twice_while_there_are_others(conversations: Callable[..., Path]) -> None:
    prompts = of_words(conversations, *(" ".join([f"w{number}"] * (20 + number)) for number in range(100)))
    found = texts(prompts, api_trace([20, 45, 30, 10] * 25))
    assert len({text.split()[0] for text in found}) == 100


def test_a_later_turn_repeats_the_earlier_one_and_a_made_up_answer(conversations: Callable[..., Path]) -> None:
    prompts = of_words(conversations, "one two three", "un deux trois", "eins zwei drei vier")
    first, other, second, third = texts(prompts, api_trace([3, 3, 8, 11], output_tokens=2, session=[1, 2, 1, 1]))
    assert {first, other} == {"one two three", "un deux trois"}
    assert second.startswith(first + " ")
    assert second.split()[5:] == ["eins", "zwei", "drei"]
    assert third.startswith(second + " ")
    assert len(third.split()) == 11
    assert not {*second.split()[3:5]} & {"one", "two", "three", "un", "deux", "trois"}


def test_a_request_has_the_same_prompt_in_whatever_shard_it_is(conversations: Callable[..., Path]) -> None:
    prompts = of_words(conversations, *(" ".join([f"w{number}"] * (5 + number)) for number in range(30)))
    trace = api_trace(
        [20, 22, 50, 64, 90, 91, 17, 200],
        output_tokens=5,
        session=[1, 2, 1, 3, 1, 2, 4, 1],
        prefix=PrefixBlocks(32, np.array([0, 0, 0, 0, 2, 2, 2, 2, 2]), np.array([1, 3])),
    )
    whole = texts(prompts, trace)
    assert [len(text.split()) for text in whole] == trace.prompt_tokens.tolist()
    for shards in (2, 3, 8):
        for shard in range(shards):
            rows = range(shard, 8, shards)
            assert list(prompts.texts(trace, rows, 1)) == [whole[row] for row in rows]
    assert texts(prompts, trace, seed=2) != whole


def test_prompts_with_recorded_blocks_are_made_up_and_share_them(conversations: Callable[..., Path]) -> None:
    prompts = of_words(conversations, "one two three " * 30)
    trace = api_trace([64, 70], prefix=PrefixBlocks(32, np.array([0, 2, 5]), np.array([4, 5, 4, 5, 6])))
    one, other = (text.split() for text in texts(prompts, trace))
    assert other[:64] == one
    assert not set(one) & {"one", "two", "three"}


def test_long_conversations_are_remembered_only_as_far_as_memory_allows(
    conversations: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = of_words(conversations, "one two three", "un deux trois", "eins zwei drei vier")
    trace = api_trace(np.arange(3, 93, 3).tolist(), output_tokens=1, session=[0, 1, 2] * 10)
    whole = texts(prompts, trace)
    monkeypatch.setattr("loadgen.prompts.dataset._PROMPTS_KEPT", 1)
    assert texts(prompts, trace) == whole
