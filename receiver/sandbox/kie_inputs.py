"""What the models of kie's market take as input and what a task of each costs.

Written from kie's model pages. The same idea is a text for one model and a number for the next, and the sandbox does
not take the one for the other. A model that is not here takes any input.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from receiver.sandbox.orders import (
    BOOLEAN,
    MAX_PROMPT_LENGTH,
    STRING,
    STRINGS,
    OrderError,
    Rule,
    check,
    one_of,
    required_text,
    strings,
    whole,
)

# About $0.005 each. Market prices depend on length and size, so these are those of a usual task.
CREDITS = {"veo3": 250, "veo3_fast": 60, "veo3_lite": 30, "sora-2-text-to-video": 30, "sora-2-image-to-video": 30}
OTHER_CREDITS = 100

ANY_LIST = Rule("a list", lambda value: isinstance(value, list))
NUMBER = Rule("a number", lambda value: type(value) in {int, float})
TEXT_DURATION = one_of("5", "10")
THREE_RATIOS = one_of("16:9", "9:16", "1:1")
UP_TO_1080P = one_of("720p", "1080p")


@dataclass(frozen=True, slots=True)
class Input:
    """One model's input: rules for its fields, those that must be there, and the longest prompt (0: need not be)."""

    rules: Mapping[str, Rule]
    required: tuple[str, ...] = ()
    prompt: int = field(default=MAX_PROMPT_LENGTH)


SORA = {
    "n_frames": one_of("10", "15"),
    "aspect_ratio": one_of("portrait", "landscape"),
    "remove_watermark": BOOLEAN,
    "upload_method": one_of("s3", "oss"),
    "image_urls": STRINGS,
    "size": one_of("standard", "high"),
}
SEEDANCE_2 = {
    "first_frame_url": STRING,
    "last_frame_url": STRING,
    "reference_image_urls": strings(9),
    "reference_video_urls": strings(3),
    "reference_audio_urls": strings(3),
    "generate_audio": BOOLEAN,
    "resolution": one_of("480p", "720p", "1080p", "4k"),
    "aspect_ratio": one_of("1:1", "4:3", "3:4", "16:9", "9:16", "21:9", "adaptive"),
    "duration": whole(4, 15),
}
KLING_3 = {
    "image_urls": STRINGS,
    "sound": BOOLEAN,
    "duration": one_of(*(str(seconds) for seconds in range(3, 16))),
    "aspect_ratio": THREE_RATIOS,
    "mode": one_of("std", "pro", "4K"),
    "multi_shots": BOOLEAN,
    "multi_prompt": ANY_LIST,
    "kling_elements": Rule("a list of at most 3", lambda value: isinstance(value, list) and len(value) <= 3),
}
KLING_2_6 = {"sound": BOOLEAN, "duration": TEXT_DURATION, "aspect_ratio": THREE_RATIOS, "image_urls": strings(1)}
WAN_2_7 = {
    "negative_prompt": STRING,
    "resolution": UP_TO_1080P,
    "duration": whole(2, 15),
    "prompt_extend": BOOLEAN,
    "watermark": BOOLEAN,
}
WAN_2_6 = {"duration": one_of("5", "10", "15"), "resolution": UP_TO_1080P, "image_urls": strings(1)}
HAILUO = {"image_url": STRING, "duration": one_of("6", "10"), "resolution": one_of("768P", "1080P")}

INPUTS = {
    "sora-2-text-to-video": Input(SORA),
    "sora-2-image-to-video": Input(SORA),
    "sora-2-pro-text-to-video": Input(SORA),
    "sora-2-pro-image-to-video": Input(SORA),
    "bytedance/seedance-2": Input(SEEDANCE_2, prompt=0),
    "bytedance/seedance-2-fast": Input(SEEDANCE_2 | {"resolution": one_of("480p", "720p")}, prompt=0),
    "kling-3.0/video": Input(
        KLING_3, required=("sound", "duration", "aspect_ratio", "mode", "multi_shots", "multi_prompt")
    ),
    "kling-2.6/text-to-video": Input(KLING_2_6, required=("sound", "aspect_ratio", "duration"), prompt=1000),
    "kling/v2-5-turbo-text-to-video-pro": Input({"duration": TEXT_DURATION, "cfg_scale": NUMBER}, prompt=2500),
    "wan/2-7-text-to-video": Input(WAN_2_7, prompt=5000),
    "wan/2-7-image-to-video": Input(WAN_2_7, prompt=0),
    "wan/2-6-text-to-video": Input(WAN_2_6, prompt=5000),
    "wan/2-6-image-to-video": Input(WAN_2_6, required=("image_urls",), prompt=5000),
    "hailuo/2-3-image-to-video-pro": Input(HAILUO, required=("image_url",), prompt=5000),
    "hailuo/2-3-image-to-video-standard": Input(HAILUO, required=("image_url",), prompt=5000),
}


def price(model: str) -> int:
    """Return what a task of this model costs in credits."""
    return CREDITS.get(model, OTHER_CREDITS)


def read_prompt(model: str, given: Mapping[str, Any]) -> str:
    """Return the prompt of an input that is valid for its model; "" if there is none and none is required."""
    known = INPUTS.get(model, Input({}, prompt=0))
    for name in known.required:
        if name not in given:
            raise OrderError(f"Missing required field: input.{name}")
    check(given, {"prompt": STRING, **known.rules}, within="input.")
    if known.prompt == 0 and not given.get("prompt"):
        return ""
    return required_text(given, "prompt", within="input.", limit=known.prompt or 20_000)
