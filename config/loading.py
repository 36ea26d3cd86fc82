"""Loading of the settings, which reports all unreadable values at once."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_settings import SettingsError

from .given_environment import given_environment
from .problem import Problem
from .secret_files import read_secret_files
from .settings import Settings


def load_settings(flags: Mapping[str, Any]) -> tuple[Settings, list[Problem]]:
    """Return the settings from environment, files and flags, and a problem for each unreadable value.

    An unreadable setting gets its default, so that the others can be checked all the same.
    """
    environment = given_environment()
    files = read_secret_files({name: value for name, value in environment.items() if name.upper() not in flags})
    taken_out = {name.upper(): value for name, value in environment.items() if value and name not in os.environ}
    given, hidden = {**taken_out, **files.values, **flags}, dict[str, str]()
    found: list[Problem] = [*files.problems]
    try:
        while True:
            try:
                settings = Settings(**given)
                return settings, [*found, *(files.exposed if settings.production else ())]
            except ValidationError as error:
                # The input is left out, as it may be a mistyped secret.
                problems = [Problem(_place(item["loc"]), _words(item["msg"])) for item in error.errors()]
            except SettingsError as error:
                problems = [Problem(_variable_of(error), "Must be valid JSON.")]
            found += problems
            for name in {problem.variable.partition(".")[0] for problem in problems}:
                given.pop(name, None)
                for variable in [key for key in os.environ if key.upper() == name]:
                    hidden[variable] = os.environ.pop(variable)
    finally:
        os.environ.update(hidden)


def _place(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, location))


def _words(message: str) -> str:
    text = message.removeprefix("Value error, ")
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


def _variable_of(error: SettingsError) -> str:
    # The library names only the field, and only in its text: error parsing value for field "tiers" from source "...".
    match = re.search(r'field "(\w+)"', str(error))
    if match is None:
        raise error
    return str(Settings.model_fields[match[1]].validation_alias)
