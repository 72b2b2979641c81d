"""Sora 2 at kie.ai: paused there since June 2026, and listed for old tasks."""

from collections.abc import Mapping

from receiver.core.catalog import Model, Parameter, price_by
from receiver.providers.kie_models.tables import Parameters, advisory_model, prompt, seconds, shape

_SORA: Parameters = {
    "prompt": prompt(10_000),
    "aspect_ratio": shape("landscape", "portrait", default="landscape"),
    "n_frames": seconds("10", "15", default="10"),
    "remove_watermark": Parameter("boolean", "Remove the watermark."),
    "upload_method": Parameter("string", "Where the result is uploaded.", ("s3", "oss")),
    "character_id_list": Parameter("strings", "Characters to show.", max_items=5),
}
_IMAGE: Parameters = {"image_urls": Parameter("strings", "First frame.", required=True)}
_PRO: Parameters = {"size": Parameter("string", "Quality tier.", ("standard", "high"))}
_STORYBOARD: Parameters = {
    "shots": Parameter("objects", "What to show: each with its own prompt and length."),
    "n_frames": seconds("10", "15", "25"),
    "aspect_ratio": _SORA["aspect_ratio"],
}
_PRICE = price_by({("10",): 30}, "n_frames")
_NOTE = "30 credits for 10 s, about $0.15"

MODELS: Mapping[str, Model] = {
    "sora-2-text-to-video": advisory_model("Sora 2, from text", _SORA, _PRICE, _NOTE),
    "sora-2-image-to-video": advisory_model("Sora 2, from an image", {**_SORA, **_IMAGE}, _PRICE, _NOTE),
    "sora-2-text-to-video-stable": advisory_model("Sora 2 Stable, from text", _SORA),
    "sora-2-image-to-video-stable": advisory_model("Sora 2 Stable, from an image", {**_SORA, **_IMAGE}),
    "sora-2-pro-text-to-video": advisory_model("Sora 2 Pro, from text", {**_SORA, **_PRO}),
    "sora-2-pro-image-to-video": advisory_model("Sora 2 Pro, from an image", {**_SORA, **_PRO, **_IMAGE}),
    "sora-2-pro-storyboard": advisory_model("Sora 2 Pro Storyboard", _STORYBOARD),
    "sora-2-characters": advisory_model("Sora 2 Characters", None),
    "sora-watermark-remover": advisory_model("Sora Watermark Remover", None),
}
