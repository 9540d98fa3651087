"""Checks of policy parameters: what each kind takes, in words, and the errors for what does not fit."""

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields
from typing import Annotated, Any, get_args, get_type_hints

from pydantic import AfterValidator, TypeAdapter, ValidationError
from pydantic import Field as Limits

from loadgen.errors import InputError
from loadgen.trace import SERVICE_LABELS


def _check_services(patience_s: Mapping[str, float]) -> Mapping[str, float]:
    """Refuse a service that does not exist: it would be ignored without a word."""
    if unknown := sorted(set(patience_s) - set(SERVICE_LABELS)):
        raise ValueError(f"unknown services {unknown}")
    return patience_s


# The description is what an error says is wanted; NaN and infinity fit none of the kinds.
Positive = Annotated[float, Limits(gt=0, allow_inf_nan=False, description="a number > 0")]
NonNegative = Annotated[float, Limits(ge=0, allow_inf_nan=False, description="a number >= 0")]
Level = Annotated[float, Limits(gt=0, lt=1, description="a number > 0 and < 1")]
Count = Annotated[int, Limits(ge=0, description="a whole number >= 0")]
SecondsByService = Annotated[
    Mapping[str, Positive],
    AfterValidator(_check_services),
    Limits(description=f"a mapping of services ({', '.join(SERVICE_LABELS)}) to seconds > 0"),
]


@dataclass(frozen=True, slots=True)
class ParameterDescription:
    """One parameter of a policy: its name, what it takes, and its default (None where it must be given)."""

    name: str
    wanted: str
    default: object | None

    def __str__(self) -> str:
        """'level=0.9', or 'replica_requests_per_s (required)'."""
        return f"{self.name} (required)" if self.default is None else f"{self.name}={self.default!r}"


def describe_parameters(policy: type[Any]) -> tuple[ParameterDescription, ...]:
    """List the parameters of a policy in the order of their declaration."""
    hints = get_type_hints(policy, include_extras=True)
    return tuple(
        ParameterDescription(field.name, _wanted(hints[field.name]), _default(field))
        for field in fields(policy)
        if field.init
    )


def check_parameters(where: str, policy: type[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters as the policy takes them; `where` ("policy 'static'", say) opens every message.

    Raises:
        InputError: a parameter is unknown, missing, or not what is wanted.
    """
    described = {parameter.name: parameter for parameter in describe_parameters(policy)}
    takes = ", ".join(str(parameter) for parameter in described.values())
    for name in given:
        if name not in described:
            raise InputError(f"{where} has no parameter {name!r}; it takes: {takes}")
    for name, parameter in described.items():
        if parameter.default is None and name not in given:
            raise InputError(f"{where} needs parameter {name!r} ({parameter.wanted}); it takes: {takes}")
    hints = get_type_hints(policy, include_extras=True)
    return {name: _checked(where, described[name], hints[name], value) for name, value in given.items()}


def _checked(where: str, parameter: ParameterDescription, hint: Any, value: Any) -> Any:
    """Return one value as the type it is to have; text is not taken for a number."""
    try:
        return TypeAdapter(hint).validate_python(value, strict=True)
    except ValidationError as error:
        raise InputError(f"{where}: parameter {parameter.name!r} is {value!r}, want {parameter.wanted}") from error


def _wanted(hint: Any) -> str:
    """Say in words what a parameter takes, from the description in its type."""
    return next(str(part.description) for part in get_args(hint)[1:] if getattr(part, "description", None))


def _default(field: Field[Any]) -> object | None:
    """The default of a dataclass field; None where there is none."""
    if field.default_factory is not MISSING:
        made: object = field.default_factory()
        return made
    return None if field.default is MISSING else field.default
