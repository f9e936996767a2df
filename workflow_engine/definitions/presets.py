"""Config models for common needs, to be used as they are or combined by inheritance.

.. code-block:: python

    class SummariseConfig(AIConfig, DebugConfig):
        max_sentences: int = 5

Wrong values are refused when a run is created, with the path of the field.
"""

from __future__ import annotations

from pydantic import BaseModel, Field


class EmptyConfig(BaseModel):
    """A config without fields of its own."""


class MinimalAIConfig(BaseModel):
    """Which model to ask, and how freely it answers."""

    model: str = Field("gemini-2.5-flash", min_length=1)
    temperature: float = Field(0.7, ge=0, le=2)


class AIConfig(MinimalAIConfig):
    """Also how long its answers may get, in tokens; None: the provider's own limit."""

    max_tokens: int | None = Field(None, gt=0)


class ConcurrencyConfig(BaseModel):
    """How a body calls an outside service: calls at a time, pause between calls in ms, tries after the first."""

    concurrency: int = Field(5, gt=0)
    delay_ms: int = Field(0, ge=0)
    max_retries: int = Field(3, ge=0)


class FeatureFlagsConfig(BaseModel):
    """Switches by name."""

    feature_flags: dict[str, bool] = Field(default_factory=dict)


class DebugConfig(BaseModel):
    """Say more, or do everything but the effects."""

    verbose: bool = False
    dry_run: bool = False


class StandardConfig(AIConfig, ConcurrencyConfig, FeatureFlagsConfig):
    """AI, concurrency and feature flags together."""


class FullConfig(StandardConfig, DebugConfig):
    """All of them."""
