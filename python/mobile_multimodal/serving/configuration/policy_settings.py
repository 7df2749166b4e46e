"""Makes the settings of every policy frozen, strict about names, and complete and discreet about what is wrong."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class PolicySettings(BaseModel):
    """The base of what a policy lets an operator choose; the settings of the application embed its children.

    A wrong file raises one pydantic.ValidationError with every problem in it. The values stay out of the message:
    a URL of Redis may hold a password.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True)
