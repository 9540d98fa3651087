"""A tokenizer counts as the served model does, and one that cannot be had is refused in one line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, processors, trainers

from loadgen.errors import InputError
from loadgen.prompts.synthetic import synthetic_prompts
from loadgen.prompts.tokenizer import Overhead, Tokenizer, WordTokenizer, open_tokenizer
from loadgen.prompts.words import MADE_UP_WORDS
from loadgen.trace import make_trace
from testbed.tiny_model import make_tiny_model

ROOT = Path(__file__).parents[3]
CHATML = (
    "{% for message in messages %}"
    "{{ '<|start|>' + message['role'] + '\\n' + message['content'] + '<|stop|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant\\n' }}{% endif %}"
)


def save_model(folder: Path, **configuration: Any) -> Any:
    """A tokenizer of bytes with the marks of a chat model, and its configuration."""
    model = tokenizers.Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.train_from_iterator(
        [], trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    )
    model.add_special_tokens(["<s>", "<|start|>", "<|stop|>"])
    model.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", model.token_to_id("<s>"))]
    )
    model.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(configuration))
    return model


def test_tokens_end_where_the_text_up_to_there_has_so_many(tokenizer: Tokenizer) -> None:
    text = "all about the mountain and the river"
    ends = tokenizer.ends(text)
    assert len(ends) == tokenizer.counts([text])[0] == len(tokenizer.ids([text])[0])
    assert ends[-1] == len(text)
    # The first token may be the space that some put before a text.
    assert tokenizer.counts([text[:end] for end in ends[1:]]) == list(range(2, len(ends) + 1))


def test_a_tokenizer_counts_long_texts_whole_and_short_ones_without_padding(tokenizer: Tokenizer) -> None:
    assert tokenizer.counts(["mountain"])[0] <= len("mountain") + 1
    assert tokenizer.counts(["mountain " * 500])[0] >= 500


def test_words_are_what_stands_between_white_space() -> None:
    assert WordTokenizer().counts(["", " a\n\tb  c ", "a-b"]) == [0, 3, 1]
    assert WordTokenizer().ends(" ab\ncd") == [3, 6]
    assert open_tokenizer("words") == WordTokenizer()


def test_a_file_is_named_by_itself_or_by_its_folder(tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "model")
    by_file = open_tokenizer(str(tmp_path / "model" / "tokenizer.json"))
    by_folder = open_tokenizer(str(tmp_path / "model"))
    assert (
        by_file.ids(["bada foma"])
        == by_folder.ids(["bada foma"])
        == [[2 + MADE_UP_WORDS.index(word) for word in ("bada", "foma")]]
    )
    assert (by_file.completion, by_file.chat) == (Overhead(), Overhead())


@pytest.mark.parametrize("in_file", [False, True])
def test_what_the_server_adds_is_the_mark_for_completions_and_the_template_for_chat(
    tmp_path: Path, in_file: bool
) -> None:
    model = save_model(tmp_path, bos_token="<s>", **({} if in_file else {"chat_template": "{{ bos_token }}" + CHATML}))
    if in_file:
        (tmp_path / "chat_template.jinja").write_text("{{ bos_token }}" + CHATML)
    opened = open_tokenizer(str(tmp_path))
    assert opened.completion == Overhead(1, 0)
    before, after = "<s><|start|>user\n", "<|stop|>\n<|start|>assistant\n"
    counts = [len(model.encode(text, add_special_tokens=False)) for text in (before, after)]
    assert [opened.chat.before_tokens, opened.chat.after_tokens] == counts == [7, 13]


def test_a_prompt_has_its_tokens_with_all_that_the_server_adds(tmp_path: Path) -> None:
    model = save_model(tmp_path, chat_template=CHATML)
    lengths = list(range(22, 200))
    trace = make_trace("t", np.arange(178.0), lengths, [1] * 178, duration_s=178.0, service=np.arange(178) % 2)
    texts = list(synthetic_prompts(open_tokenizer(str(tmp_path))).texts(trace, range(178), seed=1))
    chats = [f"<|start|>user\n{text}<|stop|>\n<|start|>assistant\n" for text in texts[0::2]]
    assert [len(model.encode(chat, add_special_tokens=False)) for chat in chats] == lengths[0::2]
    assert [len(model.encode(text)) for text in texts[1::2]] == lengths[1::2]


def test_of_several_templates_the_default_one_counts(tmp_path: Path) -> None:
    named = [{"name": "tools", "template": "xxxx"}, {"name": "default", "template": "{{ messages[0].content }}!"}]
    save_model(tmp_path, chat_template=named, bos_token={"content": "<s>", "special": True})
    assert open_tokenizer(str(tmp_path)).chat == Overhead(0, 1)


def test_a_template_may_ask_for_the_date_and_refuse(tmp_path: Path) -> None:
    save_model(
        tmp_path, chat_template="{{ strftime_now('%Y') }} {{ messages | tojson | length > 0 }}{{ messages[0].content }}"
    )
    assert open_tokenizer(str(tmp_path)).chat.before_tokens == len("2026 True")
    save_model(tmp_path, chat_template="{{ raise_exception('only with tools') }}")
    with pytest.raises(InputError, match=r"its chat template cannot be used \(only with tools\)"):
        open_tokenizer(str(tmp_path))
    save_model(tmp_path, chat_template="{% for x in %}")
    with pytest.raises(InputError, match="its chat template cannot be used"):
        open_tokenizer(str(tmp_path))


def test_what_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no tokenizer\.json; give the folder of a model"):
        open_tokenizer(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match=r"tokenizer\.json: cannot be read as a tokenizer"):
        open_tokenizer(str(tmp_path))
    make_tiny_model(tmp_path / "tiny")
    (tmp_path / "tiny" / "tokenizer_config.json").write_text("{")
    with pytest.raises(InputError, match=r"tokenizer_config\.json: cannot be read as JSON"):
        open_tokenizer(str(tmp_path / "tiny"))


def test_without_its_package_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(InputError, match=r"the package that reads it is missing; `pip install tokenizers`"):
        open_tokenizer(str(tmp_path))
    assert open_tokenizer("words") == WordTokenizer()


def test_a_model_of_the_hub_comes_from_the_cache_when_offline(tmp_path: Path) -> None:
    snapshot = tmp_path / "hub/models--some--model/snapshots/abc"
    make_tiny_model(snapshot)
    (tmp_path / "hub/models--some--model/refs").mkdir()
    (tmp_path / "hub/models--some--model/refs/main").write_text("abc")
    program = (
        "from loadgen.prompts.tokenizer import open_tokenizer\n"
        "from loadgen.errors import InputError\n"
        "print(open_tokenizer('some/model').counts(['bada foma']))\n"
        "try: open_tokenizer('some/other')\n"
        "except InputError as error: print(error)\n"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    counts, message = done.stdout.splitlines()
    assert counts == "[2]"
    assert message.startswith("tokenizer 'some/other': is no path here and cannot be had from the hub (")
    assert message.endswith("; give a folder with tokenizer.json")
    shutil.rmtree(tmp_path / "hub")
