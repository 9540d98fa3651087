"""The text that a model's chat template makes of one message."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from loadgen.errors import InputError

_CONFIG_FILE = "tokenizer_config.json"
_TEMPLATE_FILE = "chat_template.jinja"
CHAT_TEMPLATE_FILES = (_CONFIG_FILE, _TEMPLATE_FILE)
"""Those of a model's files that say how it chats."""


def render_chat(folder: Path, message: str) -> str | None:
    """What a server gives to the engine for this one message of a user; None = the model has no chat template.

    The template gets what `transformers` gives it: the messages, the marks by name, `raise_exception`, `strftime_now`.

    Raises:
        InputError: the template cannot be read or does not take a single message of a user.
    """
    config = _read_config(folder / _CONFIG_FILE)
    template = _template(folder, config)
    if template is None:
        return None
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals |= {"raise_exception": _refuse, "strftime_now": lambda form: datetime.now().strftime(form)}
    environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
    marks = {key: _text(value) for key, value in config.items() if key.endswith("_token") and value is not None}
    try:
        return environment.from_string(template).render(
            messages=[{"role": "user", "content": message}], add_generation_prompt=True, **marks
        )
    except (jinja2.TemplateError, TypeError) as error:
        raise InputError(f"{folder}: its chat template cannot be used ({error}); give another tokenizer") from error


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}); copy it from the model again") from error
    return config if isinstance(config, dict) else {}


def _template(folder: Path, config: dict[str, Any]) -> str | None:
    """The file beside the tokenizer, or the one inside its configuration (where several are, the one named default)."""
    if (folder / _TEMPLATE_FILE).is_file():
        return (folder / _TEMPLATE_FILE).read_text(encoding="utf-8")
    template = config.get("chat_template")
    if isinstance(template, list):
        template = next((named["template"] for named in template if named.get("name") == "default"), None)
    return template if isinstance(template, str) else None


def _text(mark: Any) -> str:
    """A mark stands there as text, or as an object with its `content`."""
    return str(mark["content"] if isinstance(mark, dict) else mark)


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)
