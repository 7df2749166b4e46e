"""Reads the settings of a server from flags, environment and a file, and lists all that is wrong with them at once."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import EnvSettingsSource, TomlConfigSettingsSource

from mobile_multimodal.errors import InvalidInputError, NotFoundError, did_you_mean
from mobile_multimodal.serving.configuration import setting_names
from mobile_multimodal.serving.configuration.settings import ENVIRONMENT_PREFIX, ServeSettings, SettingFields

_SHOWN_CHARACTERS: Final = 80
_NESTED: Final = "__"


def load_settings(flags: Mapping[setting_names.Path, Any], config: Path | None = None) -> ServeSettings:
    """The settings from flags, before the environment (MOBILE_MM_SERVE_*), before a TOML file, before the defaults.

    flags   by path, such as ("port",) or ("limits", "known")
    config  a TOML file
    Raises InvalidInputError that lists every problem, NotFoundError where the file does not exist.
    """
    values: dict[str, Any] = {}
    problems = _unknown_variables(os.environ)
    origins: dict[setting_names.Path, str] = {}
    if config is not None:
        _merge(values, _read_file(config), origins, f"in {str(config)!r}")
    flags_by_path = {setting.path: setting.flag for setting in setting_names.all_settings()}
    _merge(values, _Environment(ServeSettings, env_nested_delimiter=_NESTED)(), origins, "in the environment")
    for path, value in flags.items():
        nested: Any = value
        for name in reversed(path):
            nested = {name: nested}
        _merge(values, nested, origins, f"by {flags_by_path[path]}")
    try:
        settings = ServeSettings(**values)
    except ValidationError as error:
        wrong = [details for details in error.errors(include_url=False) if details["loc"]]
        problems += [_problem(details, values, origins) for details in wrong]
        problems += _conflicts(values, wrong)
        raise _error_of(problems) from None  # pydantic's own words would show values that may be secrets
    if problems:
        raise _error_of(problems)
    return settings


class _Environment(EnvSettingsSource):
    """Lists are words with commas, or JSON; pydantic-settings alone knows JSON."""

    def decode_complex_value(self, field_name: str, field: Any, value: Any) -> Any:
        return split_words(value) if isinstance(value, str) else value


def split_words(value: str) -> Any:
    """A list of words with commas, or what JSON says where the value begins with a bracket."""
    if value.lstrip().startswith(("[", "{")):
        try:
            return json.loads(value)
        except ValueError:
            return value  # refused by the setting's own type, with its name
    return [word for word in (part.strip() for part in value.split(",")) if word]


def _merge(
    values: dict[str, Any],
    added: Mapping[str, Any],
    origins: dict[setting_names.Path, str],
    origin: str,
    above: setting_names.Path = (),
) -> None:
    for name, value in added.items():
        if isinstance(value, Mapping) and isinstance(values.get(name, {}), dict):
            _merge(values.setdefault(name, {}), value, origins, origin, (*above, name))
        else:
            values[name] = value
        place = (*above, name)
        origins[place] = origin


def _read_file(config: Path) -> dict[str, Any]:
    if not config.is_file():
        raise NotFoundError(f"file {str(config)!r} with settings does not exist", "check the path after --config")
    try:
        return TomlConfigSettingsSource(ServeSettings, toml_file=config)()
    except (ValueError, OSError) as error:  # tomllib's error is a ValueError, as is that of a wrong encoding
        raise InvalidInputError(
            f"file {str(config)!r} is no TOML: {error}", 'one line a setting: `port = 8080`, `model = "name"`'
        ) from error


def _unknown_variables(environment: Iterable[str]) -> list[str]:
    known = {setting.variable for setting in setting_names.all_settings()}
    return [
        f"unknown variable {variable} in the environment; {_near(variable.upper(), known)}"
        for variable in sorted(environment)
        if variable.upper().startswith(ENVIRONMENT_PREFIX) and variable.upper() not in known
    ]


def _problem(details: ErrorDetails, values: Mapping[str, Any], origins: Mapping[setting_names.Path, str]) -> str:
    place = tuple(str(part) for part in details["loc"])
    settings = {setting.path: setting for setting in setting_names.all_settings()}
    path = next((place[:length] for length in range(len(place), 0, -1) if place[:length] in settings), place)
    origin = next((origins[place[:length]] for length in range(len(place), 0, -1) if place[:length] in origins), "")
    name = ".".join(path)
    if details["type"] == "extra_forbidden":
        known = [setting.name for setting in settings.values()]
        return f"unknown setting {name!r} {origin}; {_near(name, known)}"
    setting = settings.get(path)
    if details["type"] == "missing":
        where = "" if setting is None else f", or into {setting.variable}"
        return f"setting {name} is missing, expected a value; put it into the file{where}"
    value = setting_names.value_at(values, path)
    shown = "(not shown)" if setting is None or setting.is_secret else repr(value)
    if len(shown) > _SHOWN_CHARACTERS:
        shown = f"{shown[:_SHOWN_CHARACTERS]}..."
    text = f"setting {name} is {shown} {origin}, {_expectation(details)}"
    if isinstance(value, str) and value.startswith("tcp://"):
        # Kubernetes names its variables after services: one called mobile-mm-serve sets MOBILE_MM_SERVE_PORT.
        return f"{text}; Kubernetes set it: put enableServiceLinks: false into the pod's spec"
    return f"{text}; {setting.description}" if setting is not None and setting.description else text


def _conflicts(values: Mapping[str, Any], wrong: list[ErrorDetails]) -> list[str]:
    """What is right alone is looked at together, so that nothing is left for a second start to tell."""
    names = {str(details["loc"][0]) for details in wrong}
    right = {name: value for name, value in values.items() if name not in names}
    return [text for involved, text in SettingFields(**right).conflicts() if not names.intersection(involved)]


def _near(name: str, known: Iterable[str]) -> str:
    hint = did_you_mean(name, known)
    return hint if hint.startswith("did you mean") else "`mobile-mm serve --help` lists all"


def _expectation(details: ErrorDetails) -> str:
    message = details["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return message if message.startswith("expected") else f"expected {message[:1].lower()}{message[1:]}"


def _error_of(problems: list[str]) -> InvalidInputError:
    count = f"{len(problems)} settings are" if len(problems) > 1 else "1 setting is"
    lines = "".join(f"\n  {problem}" for problem in problems)
    return InvalidInputError(
        f"{count} wrong:{lines}", "`mobile-mm serve --help` and docs/serving.md list all settings with their defaults"
    )
