"""ByteDance's models at kie.ai: Seedance."""

from collections.abc import Mapping

from receiver.core.catalog import Model, Parameter
from receiver.providers.kie_models.tables import (
    CHECKER,
    LENGTH,
    Parameters,
    advisory_model,
    price_per_second_in_dollars,
    prompt,
    resolution,
    seconds,
    shape,
    unless_given,
)

SHAPES = ("1:1", "4:3", "3:4", "16:9", "9:16", "21:9")


def _seedance_2(*resolutions: str) -> Parameters:
    return {
        "prompt": prompt(20_000),
        "first_frame_url": Parameter("string", "First frame; not together with reference files."),
        "last_frame_url": Parameter("string", "Last frame; only with a first one."),
        "reference_image_urls": Parameter("strings", "Images to refer to.", max_items=9),
        "reference_video_urls": Parameter("strings", "Videos to refer to; they change the price.", max_items=3),
        "reference_audio_urls": Parameter("strings", "Sounds to refer to.", max_items=3),
        "generate_audio": Parameter("boolean", "Generate sound.", default=True),
        "resolution": resolution(*resolutions, default="720p"),
        "aspect_ratio": shape(*SHAPES, "adaptive", default="16:9"),
        "duration": Parameter("integer", LENGTH, default=5, minimum=4, maximum=15),
        "web_search": Parameter("boolean", "Search the web."),
        "nsfw_checker": CHECKER,
    }


_SEEDANCE_1_5: Parameters = {
    "prompt": prompt(20_000),
    "input_urls": Parameter("strings", "First and last frame.", max_items=2),
    "aspect_ratio": shape(*SHAPES, required=True),
    "resolution": resolution("480p", "720p", "1080p", default="720p"),
    "duration": Parameter("number", LENGTH, required=True, minimum=4, maximum=12),
    "fixed_lens": Parameter("boolean", "Keep the camera still.", default=False),
    "generate_audio": Parameter("boolean", "Generate sound; this doubles the price.", default=False),
    "nsfw_checker": CHECKER,
}
_V1: Parameters = {
    "prompt": prompt(10_000),
    "resolution": resolution("480p", "720p", "1080p", default="720p"),
    "duration": seconds("5", "10", default="5"),
    "camera_fixed": Parameter("boolean", "Keep the camera still."),
    "seed": Parameter("integer", "Repeats a result; -1 is random.", minimum=-1, maximum=2_147_483_647),
}
_V1_IMAGE: Parameters = {**_V1, "image_url": Parameter("string", "First frame.", required=True)}

MODELS: Mapping[str, Model] = {
    "bytedance/seedance-2": advisory_model(
        "Seedance 2",
        _seedance_2("480p", "720p", "1080p", "4k"),
        unless_given(
            "reference_video_urls",
            price_per_second_in_dollars(
                {("480p",): 0.095, ("720p",): 0.205, ("1080p",): 0.51, ("4k",): 1.04}, "resolution"
            ),
        ),
        "a second, without video input: 480p $0.095, 720p $0.205, 1080p $0.51, 4k $1.04",
    ),
    "bytedance/seedance-2-fast": advisory_model(
        "Seedance 2 Fast",
        _seedance_2("480p", "720p"),
        unless_given(
            "reference_video_urls", price_per_second_in_dollars({("480p",): 0.0775, ("720p",): 0.165}, "resolution")
        ),
        "a second, without video input: 480p $0.0775, 720p $0.165",
    ),
    "bytedance/seedance-1.5-pro": advisory_model(
        "Seedance 1.5 Pro",
        _SEEDANCE_1_5,
        price_per_second_in_dollars(
            {
                ("480p", False): 0.00875,
                ("480p", True): 0.0175,
                ("720p", False): 0.0175,
                ("720p", True): 0.035,
                ("1080p", False): 0.0375,
                ("1080p", True): 0.075,
            },
            "resolution",
            "generate_audio",
        ),
        "a second: 480p $0.00875, 720p $0.0175, 1080p $0.0375; with audio twice that",
    ),
    "bytedance/v1-pro-text-to-video": advisory_model("Seedance 1 Pro, from text", _V1),
    "bytedance/v1-pro-image-to-video": advisory_model("Seedance 1 Pro, from an image", _V1_IMAGE),
    "bytedance/v1-lite-text-to-video": advisory_model("Seedance 1 Lite, from text", _V1),
    "bytedance/v1-lite-image-to-video": advisory_model("Seedance 1 Lite, from an image", _V1_IMAGE),
}
