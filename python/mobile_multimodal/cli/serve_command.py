"""Serves the four tasks, the page and OpenAI's addresses over HTTP: `mobile-mm serve`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

from mobile_multimodal import __version__
from mobile_multimodal.serving import setting_names
from mobile_multimodal.serving.server import Addresses, run_server
from mobile_multimodal.serving.services import Services
from mobile_multimodal.serving.settings_sources import load_settings, split_words

_EPILOG: Final = """\
Every setting is also a variable, MOBILE_MM_SERVE_ and its name in capitals, and a line of the file. Flags win over
the environment, the environment over the file. `--config` names the file: TOML, one line a setting. docs/serving.md
has the guide.
"""


def add_serve_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `mobile-mm serve` takes: a flag for each setting."""
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--config", metavar="FILE", type=Path, help="read settings from this TOML file")
    groups: dict[str, Any] = {}
    for path, field in setting_names.all_settings():
        section = setting_names.name_of(path[:-1])
        if section not in groups:
            groups[section] = parser.add_argument_group(section or "settings")
        explained = setting_names.help_of(path, field)
        options: dict[str, Any] = {"dest": setting_names.name_of(path), "default": argparse.SUPPRESS, "help": explained}
        if setting_names.is_switch(field):
            options["action"] = argparse.BooleanOptionalAction
        else:
            options["metavar"] = setting_names.metavar_of(field)
        groups[section].add_argument(setting_names.flag_of(path), **options)


def run_serve(arguments: argparse.Namespace) -> int:
    """Serves until it is stopped; returns the exit code."""
    given = vars(arguments)
    flags = {}
    for path, field in setting_names.all_settings():
        name = setting_names.name_of(path)
        if name in given:
            value = given[name]
            has_parts = setting_names.is_list(field) or setting_names.is_table(field)
            flags[path] = split_words(value) if has_parts and isinstance(value, str) else value
    settings = load_settings(flags, given.get("config"))
    return run_server(settings, _tell)


def _tell(addresses: Addresses, services: Services) -> None:
    model = services.model
    workers = len(services.pool.status().workers)
    lines = [f"mobile-mm {__version__} serves {model.name} {model.version} with {workers} worker{'s' * (workers != 1)}"]
    lines.append(f"  API      {addresses.api}/v1/inference")
    if services.settings.page:
        lines.append(f"  page     {addresses.api}/")
    if addresses.metrics is not None:
        lines.append(f"  metrics  {addresses.metrics}/metrics")
    lines.append("Ctrl-C stops it.")
    print("\n".join(lines), flush=True)
