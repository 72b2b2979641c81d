"""Kling's models at kie.ai."""

from collections.abc import Mapping

from receiver.core.catalog import Model, Parameter
from receiver.providers.kie_models.tables import (
    NEGATIVE,
    Parameters,
    advisory_model,
    price_in_dollars,
    price_per_second_in_dollars,
    prompt,
    resolution,
    seconds,
    shape,
)

SHAPES = ("16:9", "9:16", "1:1")
UP_TO_15 = tuple(map(str, range(3, 16)))

_KLING_3: Parameters = {
    "prompt": prompt(),
    "image_urls": Parameter("strings", "First and last frame."),
    "sound": Parameter("boolean", "Generate sound.", required=True, default=False),
    "duration": seconds(*UP_TO_15, default="5", required=True),
    "aspect_ratio": shape(*SHAPES, default="16:9", required=True),
    "mode": Parameter("string", "720p, 1080p or 4K.", ("std", "pro", "4K"), "pro", required=True),
    "multi_shots": Parameter("boolean", "Several shots, each with its own prompt.", required=True, default=False),
    "multi_prompt": Parameter("objects", "The shots: prompt, duration.", required=True),
    "kling_elements": Parameter("objects", "What the prompt can refer to: name, description, URLs.", max_items=3),
}
_TURBO_3: Parameters = {
    "prompt": prompt(2_500),
    "duration": seconds(*UP_TO_15, default="5", required=True),
    "resolution": resolution("720p", "1080p", default="720p", required=True),
}
_KLING_2_6: Parameters = {
    "prompt": prompt(1_000),
    "sound": Parameter("boolean", "Generate sound; this doubles the price.", required=True),
    "duration": seconds("5", "10", required=True),
}
_TURBO_2_5: Parameters = {
    "prompt": prompt(2_500),
    "duration": seconds("5", "10", default="5"),
    "negative_prompt": Parameter("string", NEGATIVE),
    "cfg_scale": Parameter("number", "How closely to follow the prompt.", default=0.5, minimum=0, maximum=1),
}

_TURBO_3_PRICE = price_per_second_in_dollars({("720p",): 0.09, ("1080p",): 0.1125}, "resolution")
_TURBO_3_NOTE = "a second: 720p $0.09, 1080p $0.1125"
_KLING_2_6_PRICE = price_in_dollars(
    {("5", False): 0.275, ("10", False): 0.55, ("5", True): 0.55, ("10", True): 1.1}, "duration", "sound"
)
_KLING_2_6_NOTE = "$0.275 for 5 s, with audio $0.55; twice that for 10 s"

MODELS: Mapping[str, Model] = {
    "kling-3.0/video": advisory_model(
        "Kling 3",
        _KLING_3,
        price_per_second_in_dollars(
            {
                ("std", False): 0.07,
                ("std", True): 0.1,
                ("pro", False): 0.09,
                ("pro", True): 0.135,
                ("4K", False): 0.335,
                ("4K", True): 0.335,
            },
            "mode",
            "sound",
        ),
        "a second: 720p $0.07, 1080p $0.09, 4K $0.335; with audio $0.10, $0.135, $0.335",
    ),
    "kling/v3-turbo-text-to-video": advisory_model(
        "Kling 3 Turbo, from text",
        {**_TURBO_3, "aspect_ratio": shape(*SHAPES, required=True)},
        _TURBO_3_PRICE,
        _TURBO_3_NOTE,
    ),
    "kling/v3-turbo-image-to-video": advisory_model(
        "Kling 3 Turbo, from an image",
        {**_TURBO_3, "image_urls": Parameter("strings", "First frame.", required=True)},
        _TURBO_3_PRICE,
        _TURBO_3_NOTE,
    ),
    "kling-2.6/text-to-video": advisory_model(
        "Kling 2.6, from text",
        {**_KLING_2_6, "aspect_ratio": shape(*SHAPES, default="1:1", required=True)},
        _KLING_2_6_PRICE,
        _KLING_2_6_NOTE,
    ),
    "kling-2.6/image-to-video": advisory_model(
        "Kling 2.6, from an image",
        {**_KLING_2_6, "image_urls": Parameter("strings", "First frame.", required=True, max_items=1)},
        _KLING_2_6_PRICE,
        _KLING_2_6_NOTE,
    ),
    "kling/v2-5-turbo-text-to-video-pro": advisory_model("Kling 2.5 Turbo Pro, from text", _TURBO_2_5),
    "kling/v2-5-turbo-image-to-video-pro": advisory_model(
        "Kling 2.5 Turbo Pro, from an image",
        {**_TURBO_2_5, "image_url": Parameter("string", "First frame.", required=True)},
    ),
}
