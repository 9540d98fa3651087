"""Equal beginnings get equal hashes, other ones others; and a live engine forgets the prompts that it needs no more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.engines.prompt_texts import FORGOTTEN_AT_ONCE, LivePromptTexts, SlidingList, block_hashes
from serve_app.openai_api import read_generation

words = st.lists(st.sampled_from(["a", "b", "ab", ""]), max_size=40)


@given(one=words, other=words, block_tokens=st.integers(1, 5))
def test_hashes_are_equal_exactly_as_far_as_the_prompts_begin_alike(
    one: list[str], other: list[str], block_tokens: int
) -> None:
    hashes = block_hashes(one, block_tokens), block_hashes(other, block_tokens)
    assert [len(each) for each in hashes] == [len(one) // block_tokens, len(other) // block_tokens]
    for place, pair in enumerate(zip(*hashes, strict=False)):
        end = (place + 1) * block_tokens
        assert (pair[0] == pair[1]) == (one[:end] == other[:end])
        assert all(0 <= number < 2**62 for number in pair)


def test_the_same_words_of_another_speaker_are_another_prompt() -> None:
    def hashes(*messages: tuple[str, str]) -> list[int]:
        said = [{"role": role, "content": text} for role, text in messages]
        return block_hashes(read_generation("chat", {"model": "m", "messages": said}).prompt, 2)

    first = hashes(("system", "be brief"), ("user", "hello there"))
    assert hashes(("system", "be brief"), ("user", "hello there"), ("assistant", "yes sir"))[:2] == first
    assert hashes(("system", "be brief"), ("user", "hello you"))[0] == first[0]
    assert hashes(("system", "be brief"), ("user", "hello you"))[1] != first[1]
    assert hashes(("user", "be brief"))[0] != first[0]
    assert hashes(("system", "be brief hello there"))[0] == first[0]
    assert hashes(("system", "be brief hello there"))[1] != first[1]


def test_token_ids_are_not_taken_for_words() -> None:
    ids = read_generation("completions", {"model": "m", "prompt": [1, 2]}).prompt
    text = read_generation("completions", {"model": "m", "prompt": "1 2"}).prompt
    assert len(ids) == len(text) == 2
    assert block_hashes(ids, 1) != block_hashes(text, 1)


def test_a_sliding_list_keeps_places_and_forgets_what_lies_before_one() -> None:
    sliding = SlidingList(range(3 * FORGOTTEN_AT_ONCE))
    sliding.forget_before(10)
    assert (sliding[9], sliding[10]) == (9, 10), "a few are not worth the work"
    sliding.forget_before(2 * FORGOTTEN_AT_ONCE)
    sliding.extend([-1])
    assert (len(sliding), sliding[len(sliding) - 1]) == (3 * FORGOTTEN_AT_ONCE + 1, -1)
    assert sliding[2 * FORGOTTEN_AT_ONCE] == 2 * FORGOTTEN_AT_ONCE
    with pytest.raises(IndexError):
        sliding[2 * FORGOTTEN_AT_ONCE - 1]


def test_the_texts_of_requests_that_ended_take_no_room() -> None:
    prompts = LivePromptTexts(16)
    for request in range(5 * FORGOTTEN_AT_ONCE):
        prompts.add([request, request + 1])
        prompts.forget_before(max(0, request - 3))
    first, hashes, block_tokens = prompts.texts
    last = 5 * FORGOTTEN_AT_ONCE - 1
    assert (len(first), first[last + 1] - first[last], hashes[first[last]], block_tokens) == (last + 2, 2, last, 16)
    with pytest.raises(IndexError):
        first[last - 2 * FORGOTTEN_AT_ONCE]
