"""Names every setting as its file, the environment and the command line do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from mobile_multimodal.serving.settings import ENVIRONMENT_PREFIX, SettingFields

Path = tuple[str, ...]


def all_settings(model: type[BaseModel] = SettingFields, above: Path = ()) -> Iterator[tuple[Path, FieldInfo]]:
    """Every setting with its path: ("port",), or ("limits", "known") for one in a section."""
    for name, field in model.model_fields.items():
        section = section_of(field)
        if section is None:
            yield (*above, name), field
        else:
            yield from all_settings(section, (*above, name))


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The settings inside a section, or None for a setting."""
    for candidate in (field.annotation, *get_args(field.annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def is_list(field: FieldInfo) -> bool:
    """Whether a setting has several values."""
    return any(get_origin(kind) in (tuple, list) for kind in (field.annotation, *get_args(field.annotation)))


def is_table(field: FieldInfo) -> bool:
    """Whether a setting has named values."""
    return any(
        isinstance(get_origin(kind), type) and issubclass(get_origin(kind), Mapping)  # type: ignore[arg-type]
        for kind in (field.annotation, *get_args(field.annotation))
    )


def name_of(path: Path) -> str:
    """As the file writes it: limits.known."""
    return ".".join(path)


def variable_of(path: Path) -> str:
    """As the environment writes it: MOBILE_MM_SERVE_LIMITS__KNOWN."""
    return ENVIRONMENT_PREFIX + "__".join(path).upper()


def flag_of(path: Path) -> str:
    """As the command line writes it: --limits-known."""
    return "--" + "-".join(path).replace("_", "-")


def value_at(values: Mapping[str, Any], path: Path) -> Any:
    """The value at a path of nested tables, or None."""
    found: Any = values
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def is_switch(field: FieldInfo) -> bool:
    """Whether a setting is on or off."""
    return field.annotation is bool


def metavar_of(field: FieldInfo) -> str:
    """What stands for the value in a help text."""
    kinds = {field.annotation, *get_args(field.annotation)}
    if is_list(field):
        return "A,B"
    if is_table(field):
        return "JSON"
    if int in kinds:
        return "N"
    return "X" if float in kinds else "TEXT"


def help_of(path: Path, field: FieldInfo) -> str:
    """What a setting does, with its default."""
    text = (field.description or "").replace("%", "%%")
    default = field.get_default(call_default_factory=True)
    if default is None or default is PydanticUndefined or default == () or default == {} or is_switch(field):
        return text
    return f"{text} (default: {default})"
