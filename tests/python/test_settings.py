"""Settings are frozen, checked when made, and refuse what they do not know."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from mobile_multimodal import PROFILES, GenerationSettings, InvalidInputError
from mobile_multimodal.settings import GenerationOptions, Profile, profile_named, settings_from


def test_defaults_leave_the_search_to_the_model_file() -> None:
    settings = GenerationSettings()
    assert (settings.num_beams, settings.max_new_tokens, settings.length_penalty) == (None, None, None)
    assert (settings.temperature, settings.top_p, settings.seed, settings.stop) == (0.0, 1.0, 0, ())


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        GenerationSettings().seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_beams", 0),
        ("num_beams", 17),
        ("num_beams", True),
        ("num_beams", 2.0),
        ("num_beams", "3"),
        ("max_new_tokens", 0),
        ("max_new_tokens", -1),
        ("length_penalty", float("inf")),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", "hot"),
        ("top_p", 0),
        ("top_p", 1.1),
        ("seed", -1),
        ("seed", 2**63),
        ("stop", [""]),
        ("stop", [1]),
        ("stop", 5),
        ("stop", ["x"] * 17),
        ("deadline_seconds", -1),
        ("deadline_seconds", float("inf")),
    ],
)
def test_a_wrong_value_is_named(name: str, value: Any) -> None:
    with pytest.raises(InvalidInputError) as caught:
        settings_from(GenerationSettings, {name: value})
    assert f"setting {name} " in caught.value.message
    assert "expected" in caught.value.message
    assert caught.value.hint


def test_the_message_for_a_wrong_value() -> None:
    with pytest.raises(InvalidInputError) as caught:
        GenerationSettings(num_beams=0)
    assert str(caught.value) == (
        "setting num_beams is 0, expected an integer from 1 to 16\nhint: choose num_beams within these bounds"
    )


def test_an_unknown_name_gets_the_closest_one() -> None:
    with pytest.raises(InvalidInputError) as caught:
        settings_from(GenerationSettings, {"max_new_token": 5})
    assert str(caught.value) == "unknown setting 'max_new_token'\nhint: did you mean 'max_new_tokens'?"


@pytest.mark.parametrize("options", [{"temperature": 0.7}, {"stop": "."}])
def test_sampling_and_stop_strings_exclude_beams(options: Any) -> None:
    with pytest.raises(InvalidInputError, match="exclude each other"):
        GenerationSettings(num_beams=3, **options)
    assert GenerationSettings(num_beams=1, **options).needs_one_beam
    assert not GenerationSettings(num_beams=3).needs_one_beam


@pytest.mark.parametrize(("given", "kept"), [(".", (".",)), ([".", "!"], (".", "!")), ((), ())])
def test_stop_takes_one_string_or_several(given: Any, kept: tuple[str, ...]) -> None:
    assert GenerationSettings(stop=given).stop == kept


def test_the_keywords_of_the_methods_are_the_fields_of_the_settings() -> None:
    fields = {field.name for field in dataclasses.fields(GenerationSettings)}
    assert set(GenerationOptions.__annotations__) == fields


def test_profiles_differ_in_what_they_say() -> None:
    assert set(PROFILES) == {"fast", "balanced", "efficient"}
    assert len({(profile.threads, profile.num_beams) for profile in PROFILES.values()}) == 3
    with pytest.raises(InvalidInputError, match="threads"):
        Profile(name="x", summary="", threads=-1, num_beams=None)


@pytest.mark.parametrize(
    ("name", "hint"), [("fats", "did you mean 'fast'?"), ("turbo!", "known: fast, balanced, efficient")]
)
def test_an_unknown_profile(name: str, hint: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        profile_named(name)
    assert str(caught.value) == f"unknown profile {name!r}\nhint: {hint}"
