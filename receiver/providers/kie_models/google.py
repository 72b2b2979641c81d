"""Google's models at kie.ai: Veo 3.1, which has endpoints of its own, and Gemini Omni, a Market job."""

from collections.abc import Mapping

from receiver.core.catalog import Model, Parameter
from receiver.providers.kie_models.tables import (
    LENGTH,
    Parameters,
    advisory_model,
    price_in_dollars,
    prompt,
    resolution,
    shape,
    unless_given,
)

_VEO: Parameters = {
    "prompt": prompt(),
    "imageUrls": Parameter("strings", "One (first frame), two (first and last frame) or up to three (references)."),
    "generationType": Parameter(
        "string",
        "What the images are for; if left out, their number decides.",
        ("TEXT_2_VIDEO", "FIRST_AND_LAST_FRAMES_2_VIDEO", "REFERENCE_2_VIDEO"),
    ),
    # Veo's names are in camel case, where those of Market models are in snake case.
    "aspectRatio": shape("16:9", "9:16", "Auto", default="16:9"),
    "resolution": resolution("720p", "1080p", "4k", default="720p"),
    "duration": Parameter("integer", LENGTH, (4, 6, 8), 8),
    "watermark": Parameter("string", "A text to show in the picture."),
    "enableFallback": Parameter("boolean", "Has no effect any more."),
}


def _veo(title: str, dollars: dict[str, float]) -> Model:
    note = "a video: " + ", ".join(f"{size} ${price:g}" for size, price in dollars.items())
    price = price_in_dollars({(size,): price for size, price in dollars.items()}, "resolution")
    return advisory_model(title, _VEO, price, note)


VEO: Mapping[str, Model] = {
    "veo3_fast": _veo("Veo 3.1 Fast", {"720p": 0.3, "1080p": 0.325, "4k": 0.9}),
    "veo3": _veo("Veo 3.1 Quality", {"720p": 1.25, "1080p": 1.275, "4k": 1.85}),
    # For 4k from an image, the list also has 720p's price, which can only be a mistake.
    "veo3_lite": _veo("Veo 3.1 Lite", {"720p": 0.15, "1080p": 0.175, "4k": 0.75}),
}

_OMNI: Parameters = {
    "prompt": prompt(20_000),
    "image_urls": Parameter("strings", "Images to refer to.", max_items=7),
    "duration": Parameter("string", LENGTH, ("4", "6", "8", "10"), required=True),
    "aspect_ratio": shape("16:9", "9:16"),
    "resolution": resolution("720p", "1080p", "4k", default="720p"),
    "seed": Parameter("integer", "Repeats a result.", minimum=0, maximum=2_147_483_647),
}
_OMNI_HD = {"4": 0.45, "6": 0.6, "8": 0.75, "10": 0.9}
_OMNI_4K = {"4": 1.05, "6": 1.2, "8": 1.35, "10": 1.5}
_OMNI_PRICE = price_in_dollars(
    {(length, size): price for size in ("720p", "1080p") for length, price in _OMNI_HD.items()}
    | {(length, "4k"): price for length, price in _OMNI_4K.items()},
    "duration",
    "resolution",
)

MARKET: Mapping[str, Model] = {
    "gemini-omni-video": advisory_model(
        "Gemini Omni",
        _OMNI,
        unless_given("video_list", _OMNI_PRICE),
        "without video input: $0.45 for 4 s to $0.90 for 10 s, 8 s $0.75; in 4k $1.05 to $1.50, 8 s $1.35",
    ),
}
