"""Settings by the names of their environment variables."""

from __future__ import annotations

from typing import Any

from pydantic import SecretStr

from .settings import Settings


def is_set(settings: Settings, variable: str) -> bool:
    """Return whether the setting of this variable is set, here or in another process."""
    return value_of(settings, variable) is not None


def value_of(settings: Settings, variable: str) -> Any:
    """Return the setting of this variable."""
    fields = Settings.model_fields.items()
    return getattr(settings, next(name for name, field in fields if field.validation_alias == variable))


def secret_of(settings: Settings, variable: str) -> SecretStr | None:
    """Return the setting of this variable; None for one that is not set, or no secret."""
    value = value_of(settings, variable)
    return value if isinstance(value, SecretStr) else None
