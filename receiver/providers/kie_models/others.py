"""Further makers' models at kie.ai: Wan, Hailuo, Grok Imagine and HappyHorse."""

from collections.abc import Mapping

from receiver.core.catalog import Model, Parameter
from receiver.providers.kie_models.tables import (
    CHECKER,
    LENGTH,
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

_WAN_2_7: Parameters = {
    "negative_prompt": Parameter("string", NEGATIVE, max_length=500),
    "resolution": resolution("720p", "1080p", default="1080p"),
    "duration": Parameter("integer", LENGTH, default=5, minimum=2, maximum=15),
    "prompt_extend": Parameter("boolean", "Rewrite the prompt.", default=True),
    "watermark": Parameter("boolean", "Add a watermark.", default=False),
    "seed": Parameter("integer", "Repeats a result.", minimum=0, maximum=2_147_483_647),
}
_WAN_2_7_PRICE = price_per_second_in_dollars({("720p",): 0.08, ("1080p",): 0.12}, "resolution")
_WAN_2_7_NOTE = "a second: 720p $0.08, 1080p $0.12"

_WAN_2_6: Parameters = {
    "prompt": prompt(5_000),
    "duration": seconds("5", "10", "15", default="5"),
    "resolution": resolution("720p", "1080p", default="1080p"),
}
_WAN_2_6_PRICE = price_in_dollars(
    {
        ("5", "720p"): 0.35,
        ("10", "720p"): 0.7,
        ("15", "720p"): 1.05,
        ("5", "1080p"): 0.5225,
        ("10", "1080p"): 1.0475,
        ("15", "1080p"): 1.575,
    },
    "duration",
    "resolution",
)
_WAN_2_6_NOTE = "for 5, 10, 15 s: 720p $0.35, $0.70, $1.05; 1080p $0.5225, $1.0475, $1.575"

WAN: Mapping[str, Model] = {
    "wan/2-7-text-to-video": advisory_model(
        "Wan 2.7, from text",
        {
            "prompt": prompt(5_000),
            **_WAN_2_7,
            "audio_url": Parameter("string", "The sound of the video."),
            "ratio": Parameter("string", "Shape of the frame; aspect_ratio in other models."),
        },
        _WAN_2_7_PRICE,
        _WAN_2_7_NOTE,
    ),
    "wan/2-7-image-to-video": advisory_model(
        "Wan 2.7, from an image",
        {
            "prompt": prompt(5_000, required=False),
            **_WAN_2_7,
            "first_frame_url": Parameter("string", "First frame."),
            "last_frame_url": Parameter("string", "Last frame."),
            "first_clip_url": Parameter("string", "Video to continue."),
            "driving_audio_url": Parameter("string", "Sound that drives the motion."),
        },
        _WAN_2_7_PRICE,
        _WAN_2_7_NOTE,
    ),
    "wan/2-6-text-to-video": advisory_model("Wan 2.6, from text", _WAN_2_6, _WAN_2_6_PRICE, _WAN_2_6_NOTE),
    "wan/2-6-image-to-video": advisory_model(
        "Wan 2.6, from an image",
        {**_WAN_2_6, "image_urls": Parameter("strings", "First frame.", required=True, max_items=1)},
        _WAN_2_6_PRICE,
        _WAN_2_6_NOTE,
    ),
}

_HAILUO: Parameters = {
    "prompt": prompt(5_000),
    "image_url": Parameter("string", "First frame.", required=True),
    "duration": seconds("6", "10", default="6"),
    "resolution": resolution("768P", "1080P", default="768P"),  # upper case, here alone
}

HAILUO: Mapping[str, Model] = {
    "hailuo/2-3-image-to-video-pro": advisory_model(
        "Hailuo 2.3 Pro, from an image",
        _HAILUO,
        price_in_dollars({("6", "768P"): 0.225, ("10", "768P"): 0.45, ("6", "1080P"): 0.4}, "duration", "resolution"),
        "768P $0.225 for 6 s, $0.45 for 10 s; 1080P $0.40 for 6 s",
    ),
    "hailuo/2-3-image-to-video-standard": advisory_model(
        "Hailuo 2.3 Standard, from an image",
        _HAILUO,
        price_in_dollars({("6", "768P"): 0.15, ("10", "768P"): 0.25, ("6", "1080P"): 0.25}, "duration", "resolution"),
        "768P $0.15 for 6 s, $0.25 for 10 s; 1080P $0.25 for 6 s",
    ),
}

# The page lists a callBackUrl as required; without a public URL of ours the order goes out without one all the same.
_GROK: Parameters = {
    "prompt": prompt(5_000),
    "aspect_ratio": shape("2:3", "3:2", "1:1", "16:9", "9:16", required=True),
    "mode": Parameter("string", "Kind of motion.", ("fun", "normal", "spicy"), required=True),
    "duration": Parameter("number", LENGTH, minimum=6, maximum=30),
    "resolution": resolution("480p", "720p", required=True),
    "nsfw_checker": CHECKER,
}

_HORSE: Parameters = {
    "resolution": resolution("720p", "1080p", default="1080p"),
    "duration": Parameter("number", LENGTH, default=5, minimum=3, maximum=15),
}
_HORSE_SHAPE = shape("16:9", "9:16", "1:1", "4:3", "3:4", "4:5", "5:4", "9:21", "21:9", default="16:9")
_HORSE_PRICE = price_per_second_in_dollars({("720p",): 0.1125, ("1080p",): 0.145}, "resolution")
_HORSE_NOTE = "a second: 720p $0.1125, 1080p $0.145"

HAPPYHORSE: Mapping[str, Model] = {
    "happyhorse-1-1/text-to-video": advisory_model(
        "HappyHorse 1.1, from text",
        {"prompt": prompt(4_999), **_HORSE, "aspect_ratio": _HORSE_SHAPE},
        _HORSE_PRICE,
        _HORSE_NOTE,
    ),
    "happyhorse-1-1/image-to-video": advisory_model(
        "HappyHorse 1.1, from an image",
        {
            "prompt": prompt(5_000, required=False),
            "image_urls": Parameter("strings", "First frame.", required=True),
            **_HORSE,
        },
        _HORSE_PRICE,
        _HORSE_NOTE,
    ),
    "happyhorse-1-1/reference-to-video": advisory_model(
        "HappyHorse 1.1, from references",
        {
            "prompt": prompt(5_000),
            "reference_image": Parameter("strings", "Images to refer to.", required=True, max_items=9),
            **_HORSE,
            "aspect_ratio": _HORSE_SHAPE,
        },
        _HORSE_PRICE,
        _HORSE_NOTE,
    ),
}

MODELS: Mapping[str, Model] = {
    **WAN,
    **HAILUO,
    "grok-imagine/text-to-video": advisory_model(
        "Grok Imagine, from text",
        _GROK,
        price_per_second_in_dollars({("480p",): 0.008, ("720p",): 0.015}, "resolution"),
        "a second: 480p $0.008, 720p $0.015",
    ),
    **HAPPYHORSE,
}
