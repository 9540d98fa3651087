"""Strict reading of YAML: an unknown key is an error that lists the known ones."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from loadgen.errors import InputError

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class StrictModel(BaseModel):
    """A frozen configuration model that takes no key it does not know.

    A renamed or misspelt key must fail, not quietly leave the default in force.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


Model = TypeVar("Model", bound=BaseModel)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the mapping in a YAML file.

    Raises:
        InputError: the file is missing, is not YAML, or holds no mapping.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: is not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(document, dict):
        raise InputError(f"{path}: holds {type(document).__name__}, want a mapping of keys to values")
    return document


def parse(model: type[Model], values: Mapping[str, Any], where: str, folder: Path | None = None) -> Model:
    """Build `model` from plain values.

    Args:
        model: what to build.
        values: as YAML gives them.
        where: opens every error message: a file name, say.
        folder: files that are named in the values are relative to it; None = the working directory.

    Raises:
        InputError: with the first problem and the number of further ones.
    """
    try:
        return model.model_validate(values, context={"folder": folder})
    except ValidationError as error:
        raise InputError(f"{where}: {_describe(error, model, values)}") from error


def _describe(error: ValidationError, model: type[BaseModel], values: Mapping[str, Any]) -> str:
    """Say the first problem of a validation in one line, with the known keys where one is unknown."""
    # A misspelt key is both unknown and missing: the first says more.
    problems = sorted(_own_problems(error), key=lambda problem: problem["type"] != "extra_forbidden")
    first = problems[0]
    place = ".".join(_written_path(first["loc"], values, first["type"] == "missing"))
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] == "extra_forbidden":
        known = _known_keys(model, first["loc"][:-1])
        listed = f"; known keys: {', '.join(known)}" if known else ""
        return f"unknown key '{place}'{listed}{more}"
    if first["type"] == "missing":
        return f"key '{place}' is missing; add it{more}"
    if first["type"] == "union_tag_not_found":
        tag = first["ctx"]["discriminator"].strip("'")
        return f"key '{place}.{tag}' is missing; add it{more}"
    message = first["msg"].removeprefix("Value error, ")
    got = "" if first["type"] == "value_error" else f", got {_shortened(repr(first['input']))}"
    where = f"'{place}': " if place else ""
    return f"{where}{message[0].lower()}{message[1:]}{got}{more}"


def _own_problems(error: ValidationError) -> list[ErrorDetails]:
    """The problems without those that only follow: a list is called too short when its items were wrong."""
    problems = error.errors()
    inner = {problem["loc"][:depth] for problem in problems for depth in range(len(problem["loc"]))}
    return [problem for problem in problems if problem["type"] != "too_short" or problem["loc"] not in inner]


def _shortened(text: str, longest: int = 200) -> str:
    return text if len(text) <= longest else f"{text[:longest]} ..."


def _written_path(path: tuple[int | str, ...], values: Any, last_is_missing: bool) -> list[str]:
    """The path without the tags of unions, which nobody has written."""
    written = []
    for number, part in enumerate(path):
        if isinstance(values, Mapping):
            if part not in values and not (last_is_missing and number == len(path) - 1):
                continue
            values = values.get(part)
        elif isinstance(values, (list, tuple)) and isinstance(part, int):
            values = values[part] if part < len(values) else None
        else:
            continue
        written.append(str(part))
    return written


def _known_keys(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Follow `path` through nested models and list the fields of the model found there."""
    current: type[BaseModel] | None = model
    for number, part in enumerate(path):
        if current is None:
            return []
        field = current.model_fields.get(str(part))
        if field is None:
            continue  # a list index, a mapping's key, or the tag of a union
        current = _model_in(field.annotation, path[number + 1 :])
    return sorted(current.model_fields) if current else []


def _model_in(annotation: Any, path: tuple[int | str, ...]) -> type[BaseModel] | None:
    """Find the model inside `list[M]`, `M | None`, `dict[str, M]` or a tagged union, whose tag comes next in `path`."""
    models = _models_in(annotation)
    for part in path:
        for candidate in models:
            fields = candidate.model_fields.values()
            if any(part in getattr(field.annotation, "__args__", ()) for field in fields):
                return candidate
    return models[0] if models else None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]
