"""Every text that a person wrote is read from every form of the file, and what is malformed is named by its place."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loadgen.errors import InputError
from loadgen.prompts import conversations
from loadgen.prompts.conversations import human_turns

SHAREGPT = {"id": "a", "conversations": [{"from": "human", "value": " Hi "}, {"from": "gpt", "value": "no"}]}
MESSAGES = {
    "messages": [
        {"role": "system", "content": "no"},
        {"role": "user", "content": "How\nare you?"},
        {"role": "assistant", "content": None},
        {"role": "user", "content": [{"type": "text", "text": "Look:"}, {"type": "image_url"}, {"text": "what?"}]},
        {"role": "user", "content": "  \n"},
    ]
}
TEXTS = ["Hi", "How\nare you?", "Look:\nwhat?"]


def read(path: Path, content: str | bytes) -> list[str]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(human_turns(path))


@pytest.mark.parametrize(
    "content",
    [
        json.dumps([SHAREGPT, MESSAGES]),
        json.dumps([SHAREGPT, MESSAGES], indent=2),
        f"\n {json.dumps(SHAREGPT)}\r\n\n{json.dumps(MESSAGES)}",
        b"\xef\xbb\xbf" + json.dumps([SHAREGPT, MESSAGES]).encode(),
    ],
)
def test_each_form_gives_the_texts_of_people_and_no_other(tmp_path: Path, content: str | bytes) -> None:
    assert read(tmp_path / "c", content) == TEXTS


def test_a_list_may_be_empty(tmp_path: Path) -> None:
    assert read(tmp_path / "c", "[ ]") == []


def test_half_a_surrogate_pair_becomes_a_replacement_mark(tmp_path: Path) -> None:
    turn = '{"from": "human", "value": "a\\ud83d b \\ud83d\\ude00"}'
    assert read(tmp_path / "c", f'[{{"conversations": [{turn}]}}]') == ["a\ufffd b \U0001f600"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty; want a JSON list of conversations"),
        ("hello", "begins with 'h'; want a JSON list"),
        ("[5]", "conversation 1: is 5, want an object with 'conversations' or 'messages'"),
        ('[{"turns": [], "id": 3}]', "conversation 1: has the keys turns, id, want an object"),
        ('[{"conversations": "x"}]', "conversation 1: 'conversations' is \"x\", want a list of turns"),
        (json.dumps([SHAREGPT, {"conversations": [{"value": "x"}]}]), "conversation 2, turn 1: is .*want .* 'from'"),
        ('[{"messages": [{"role": "user", "content": 7}]}]', "conversation 1, turn 1: 'content' is 7, want text"),
        ('[{"conversations": [{"from": "human"}]}]', "conversation 1, turn 1: 'value' is null, want text"),
        (json.dumps([SHAREGPT])[:-1], "conversation 1: the file ends after it, want ',' or ']'; is the file whole"),
        (json.dumps([SHAREGPT])[:-9], "conversation 1: is not JSON .*; is the file whole"),
        ("[{},{}", "conversation 1: has the keys"),
        (f"[{json.dumps(SHAREGPT)} {json.dumps(SHAREGPT)}]", "conversation 1: '{' stands after it"),
        (f"[{json.dumps(SHAREGPT)},]", "conversation 2: is not JSON .Expecting value."),
        (f"{json.dumps(SHAREGPT)}\n{{'a'}}", "line 2: is not JSON .*want a conversation on each line"),
        ("[" * 100_000, "conversation 1: is not JSON"),
        ("[" + "1" * 5000 + "]", "conversation 1: is not JSON"),
        (b"[\xff]", "is not UTF-8 text"),
    ],
)
def test_what_is_malformed_is_named_by_its_place(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path / "c", content)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be read \(No such file"):
        list(human_turns(tmp_path / "none.json"))


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers(-(10**20), 10**20) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    texts=st.lists(st.tuples(st.text(max_size=40), VALUES), max_size=6),
    chunk_characters=st.integers(1, 50),
    as_list=st.booleans(),
    ascii_only=st.booleans(),
)
@example(texts=[("\n", "x"), ("é" * 30, True)], chunk_characters=1, as_list=True, ascii_only=True)
def test_it_does_not_matter_where_the_pieces_of_the_file_are_cut(
    tmp_path_factory: pytest.TempPathFactory,
    texts: list[tuple[str, Any]],
    chunk_characters: int,
    as_list: bool,
    ascii_only: bool,
) -> None:
    entries = [{"more": more, "messages": [{"role": "user", "content": text}]} for text, more in texts]
    lines = [json.dumps(entry, ensure_ascii=ascii_only) for entry in entries]
    path = tmp_path_factory.getbasetemp() / "cut.json"
    if not as_list and not lines:
        return
    content = f"[{', '.join(lines)}]" if as_list else "\n".join(lines)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conversations, "_CHUNK_CHARACTERS", chunk_characters)
        assert read(path, content) == [text.strip() for text, _ in texts if text.strip()]


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode), st.integers(0, 200), st.integers(1, 40))
def test_a_damaged_file_gives_texts_or_one_clear_message(
    tmp_path_factory: pytest.TempPathFactory, damage: bytes, at: int, length: int
) -> None:
    whole = json.dumps([SHAREGPT, MESSAGES]).encode()
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    message = f"{path}: no error"
    try:
        read(path, whole[:at] + damage + whole[at + length :])
    except InputError as error:
        message = str(error)
    assert message.startswith(str(path))
    assert "\n" not in message


def test_reading_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversations, "_CHUNK_CHARACTERS", 5000)
    path = tmp_path / "c"
    path.write_text(json.dumps([SHAREGPT] * 500))
    seen: list[tuple[float, float]] = []
    assert len(list(human_turns(path, lambda *done: seen.append(done)))) == 500
    assert seen == sorted(seen)
    assert len(seen) > 3
    assert seen[-1] == (path.stat().st_size, path.stat().st_size)
