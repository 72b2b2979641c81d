"""The models of kie.ai: those of its video APIs that people use now, and its historic Sora ones.

Hints for forms, and prices; one module for each maker. Only `kie` reads it.
"""

from collections.abc import Mapping

from receiver.core.catalog import Model
from receiver.providers.kie_models import bytedance, google, kling, others, sora

VEO = frozenset(google.VEO)
"""The models with endpoints of their own; all others are Market jobs."""

MODELS: Mapping[str, Model] = {
    **google.VEO,
    **google.MARKET,
    **bytedance.MODELS,
    **kling.MODELS,
    **others.MODELS,
    **sora.MODELS,
}
