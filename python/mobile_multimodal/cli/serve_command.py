"""Serves the four tasks, the page and OpenAI's addresses over HTTP: `mobile-mm serve`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

from mobile_multimodal import __version__
from mobile_multimodal.serving.configuration import setting_names
from mobile_multimodal.serving.configuration.settings_sources import load_settings, split_words
from mobile_multimodal.serving.server import Addresses, run_server
from mobile_multimodal.serving.services import Services

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
    for setting in setting_names.all_settings():
        section = ".".join(setting.path[:-1])
        if section not in groups:
            groups[section] = parser.add_argument_group(section or "settings")
        explained = setting.help.replace("%", "%%")
        options: dict[str, Any] = {"dest": setting.name, "default": argparse.SUPPRESS, "help": explained}
        if setting.is_switch:
            options["action"] = argparse.BooleanOptionalAction
        else:
            options["metavar"] = setting.metavar
        groups[section].add_argument(setting.flag, **options)


def run_serve(arguments: argparse.Namespace) -> int:
    """Serves until it is stopped; returns the exit code."""
    given = vars(arguments)
    flags = {}
    for setting in setting_names.all_settings():
        if setting.name in given:
            value = given[setting.name]
            has_parts = setting.is_list or setting.is_table
            flags[setting.path] = split_words(value) if has_parts and isinstance(value, str) else value
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
