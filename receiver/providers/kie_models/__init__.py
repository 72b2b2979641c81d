"""The models of kie.ai: its current video models, and its former Sora ones, with parameters for forms and prices.

One module for each maker. Only `kie` reads it.
"""

from collections.abc import Mapping

from receiver.core.catalog import Model
from receiver.providers.kie_models import bytedance, google, kling, others, sora

VEO = frozenset(google.VEO)
"""The models with their own endpoints; all others are Market jobs."""

MODELS: Mapping[str, Model] = {
    **google.VEO,
    **google.MARKET,
    **bytedance.MODELS,
    **kling.MODELS,
    **others.MODELS,
    **sora.MODELS,
}
