"""Names every setting as its file, the environment and the command line do, and explains it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from mobile_multimodal.serving.configuration.settings import ENVIRONMENT_PREFIX, SettingFields

Path = tuple[str, ...]

# Flags leave this section's name out: --api-keys-file says enough.
_UNNAMED_SECTION: Final = "authentication"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting: its path, such as ("limits", "known"), and the class that declares it."""

    path: Path
    field: FieldInfo
    owner: type[BaseModel]

    @property
    def name(self) -> str:
        """As the file writes it: limits.known."""
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        """As the environment writes it: MOBILE_MM_SERVE_LIMITS__KNOWN."""
        return ENVIRONMENT_PREFIX + "__".join(self.path).upper()

    @property
    def flag(self) -> str:
        """As the command line writes it: --limits-known."""
        return "--" + "-".join(name for name in self.path if name != _UNNAMED_SECTION).replace("_", "-")

    @property
    def is_switch(self) -> bool:
        """Whether it is on or off."""
        return self.field.annotation is bool

    @property
    def is_secret(self) -> bool:
        """Whether its value must not be shown."""
        return any(kind is SecretStr for kind in self._kinds)

    @property
    def is_list(self) -> bool:
        """Whether it has several values."""
        return any(get_origin(kind) in (tuple, list) for kind in self._kinds)

    @property
    def is_table(self) -> bool:
        """Whether its values have names."""
        origins = [get_origin(kind) for kind in self._kinds]
        return any(isinstance(origin, type) and issubclass(origin, Mapping) for origin in origins)

    @property
    def metavar(self) -> str:
        """What stands for the value in a help text."""
        if self.is_list:
            return "A,B"
        if self.is_table:
            return "JSON"
        if int in self._kinds:
            return "N"
        return "X" if float in self._kinds else "TEXT"

    @property
    def description(self) -> str:
        """What it does: the field's own words, or its line in the docstring of its class."""
        if self.field.description:
            return self.field.description
        name = rf"(?:\w+, )*{self.path[-1]}(?:, \w+)*"
        found = re.search(rf"^( *){name}  +(.+(?:\n\1 {{4,}}.+)*)", self.owner.__doc__ or "", re.MULTILINE)
        return " ".join(found[2].split()) if found else ""

    @property
    def help(self) -> str:
        """The description with the default."""
        default = self.field.get_default(call_default_factory=True)
        if default in (None, PydanticUndefined, (), {}) or self.is_switch:
            return self.description
        shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
        return f"{self.description} (default: {shown})"

    @property
    def _kinds(self) -> tuple[Any, ...]:
        annotation = self.field.annotation
        is_union = get_origin(annotation) in (Union, UnionType)
        return (annotation, *get_args(annotation)) if is_union else (annotation,)


def all_settings(owner: type[BaseModel] = SettingFields, above: Path = ()) -> Iterator[Setting]:
    """Every setting, those in sections too."""
    for name, field in owner.model_fields.items():
        section = _section_of(field)
        if section is None:
            yield Setting(path=(*above, name), field=field, owner=owner)
        else:
            yield from all_settings(section, (*above, name))


def value_at(values: Mapping[str, Any], path: Path) -> Any:
    """The value at a path of nested tables, or None."""
    found: Any = values
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _section_of(field: FieldInfo) -> type[BaseModel] | None:
    for candidate in (field.annotation, *get_args(field.annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None
