"""The hints on kie.ai's models, written out once more: names, types and bounds of its pages, prices of its list."""

from typing import Any

import pytest

from receiver.core.errors import Invalid
from receiver.providers import FAMILIES

MODELS = FAMILIES["kie"].models

VEO = {
    "prompt": "string*",
    "imageUrls": "array",
    "generationType": "string TEXT_2_VIDEO|FIRST_AND_LAST_FRAMES_2_VIDEO|REFERENCE_2_VIDEO",
    "aspectRatio": "string 16:9|9:16|Auto =16:9",
    "resolution": "string 720p|1080p|4k =720p",
    "duration": "integer 4|6|8 =8",
    "watermark": "string",
    "enableFallback": "boolean",
}
TYPES: dict[str, dict[str, str]] = {
    # `*`: required; `{}`: from, to; `[n]`: at most so many; `=`: the default that the provider itself fills in
    "bytedance/seedance-2": {
        "prompt": "string* 20000",
        "first_frame_url": "string",
        "last_frame_url": "string",
        "reference_image_urls": "array[9]",
        "reference_video_urls": "array[3]",
        "reference_audio_urls": "array[3]",
        "generate_audio": "boolean =True",
        "resolution": "string 480p|720p|1080p|4k =720p",
        "aspect_ratio": "string 1:1|4:3|3:4|16:9|9:16|21:9|adaptive =16:9",
        "duration": "integer {4,15} =5",
        "web_search": "boolean",
        "nsfw_checker": "boolean",
    },
    "bytedance/seedance-2-fast": {"resolution": "string 480p|720p =720p", "duration": "integer {4,15} =5"},
    "bytedance/seedance-1.5-pro": {
        "prompt": "string* 20000",
        "input_urls": "array[2]",
        "aspect_ratio": "string* 1:1|4:3|3:4|16:9|9:16|21:9",
        "resolution": "string 480p|720p|1080p =720p",
        "duration": "number* {4,12}",
        "fixed_lens": "boolean =False",
        "generate_audio": "boolean =False",
    },
    "bytedance/v1-pro-text-to-video": {"duration": "string 5|10 =5", "seed": "integer {-1,2147483647}"},
    "bytedance/v1-pro-image-to-video": {"image_url": "string*", "camera_fixed": "boolean"},
    "bytedance/v1-lite-text-to-video": {"prompt": "string* 10000"},
    "bytedance/v1-lite-image-to-video": {"image_url": "string*"},
    "kling-3.0/video": {
        "prompt": "string*",
        "image_urls": "array",
        "sound": "boolean* =False",
        "duration": "string* 3|4|5|6|7|8|9|10|11|12|13|14|15 =5",
        "aspect_ratio": "string* 16:9|9:16|1:1 =16:9",
        "mode": "string* std|pro|4K =pro",
        "multi_shots": "boolean* =False",
        "multi_prompt": "array*",
        "kling_elements": "array[3]",
    },
    "kling/v3-turbo-text-to-video": {
        "prompt": "string* 2500",
        "aspect_ratio": "string* 16:9|9:16|1:1",
        "resolution": "string* 720p|1080p =720p",
    },
    "kling/v3-turbo-image-to-video": {"image_urls": "array*", "resolution": "string* 720p|1080p =720p"},
    "kling-2.6/text-to-video": {
        "prompt": "string* 1000",
        "sound": "boolean*",
        "aspect_ratio": "string* 16:9|9:16|1:1 =1:1",
        "duration": "string* 5|10",
    },
    "kling-2.6/image-to-video": {"image_urls": "array*[1]", "duration": "string* 5|10"},
    "kling/v2-5-turbo-text-to-video-pro": {
        "prompt": "string* 2500",
        "duration": "string 5|10 =5",
        "negative_prompt": "string",
        "cfg_scale": "number {0,1} =0.5",
    },
    "kling/v2-5-turbo-image-to-video-pro": {"image_url": "string*"},
    "wan/2-7-text-to-video": {
        "prompt": "string* 5000",
        "negative_prompt": "string 500",
        "audio_url": "string",
        "resolution": "string 720p|1080p =1080p",
        "ratio": "string",
        "duration": "integer {2,15} =5",
        "prompt_extend": "boolean =True",
        "watermark": "boolean =False",
        "seed": "integer {0,2147483647}",
    },
    "wan/2-7-image-to-video": {
        "prompt": "string 5000",
        "first_frame_url": "string",
        "last_frame_url": "string",
        "first_clip_url": "string",
        "driving_audio_url": "string",
        "duration": "integer {2,15} =5",
    },
    "wan/2-6-text-to-video": {"prompt": "string* 5000", "duration": "string 5|10|15 =5"},
    "wan/2-6-image-to-video": {"image_urls": "array*[1]", "resolution": "string 720p|1080p =1080p"},
    "hailuo/2-3-image-to-video-pro": {
        "prompt": "string* 5000",
        "image_url": "string*",
        "duration": "string 6|10 =6",
        "resolution": "string 768P|1080P =768P",
    },
    "hailuo/2-3-image-to-video-standard": {"resolution": "string 768P|1080P =768P"},
    "grok-imagine/text-to-video": {
        "prompt": "string* 5000",
        "aspect_ratio": "string* 2:3|3:2|1:1|16:9|9:16",
        "mode": "string* fun|normal|spicy",
        "duration": "number {6,30}",
        "resolution": "string* 480p|720p",
    },
    "happyhorse-1-1/text-to-video": {
        "prompt": "string* 4999",
        "resolution": "string 720p|1080p =1080p",
        "aspect_ratio": "string 16:9|9:16|1:1|4:3|3:4|4:5|5:4|9:21|21:9 =16:9",
        "duration": "number {3,15} =5",
    },
    "happyhorse-1-1/image-to-video": {"prompt": "string 5000", "image_urls": "array*"},
    "happyhorse-1-1/reference-to-video": {"prompt": "string* 5000", "reference_image": "array*[9]"},
    "gemini-omni-video": {
        "prompt": "string* 20000",
        "image_urls": "array[7]",
        "duration": "string* 4|6|8|10",
        "aspect_ratio": "string 16:9|9:16",
        "resolution": "string 720p|1080p|4k =720p",
        "seed": "integer {0,2147483647}",
    },
    "veo3": VEO,
    "veo3_fast": VEO,
    "veo3_lite": VEO,
    "sora-2-text-to-video": {
        "prompt": "string* 10000",
        "n_frames": "string 10|15 =10",
        "aspect_ratio": "string landscape|portrait =landscape",
        "remove_watermark": "boolean",
        "upload_method": "string s3|oss",
        "character_id_list": "array[5]",
    },
    "sora-2-image-to-video": {"image_urls": "array*"},
    "sora-2-text-to-video-stable": {"n_frames": "string 10|15 =10"},
    "sora-2-image-to-video-stable": {"image_urls": "array*"},
    "sora-2-pro-text-to-video": {"size": "string standard|high"},
    "sora-2-pro-image-to-video": {"size": "string standard|high", "image_urls": "array*"},
    "sora-2-pro-storyboard": {"n_frames": "string 10|15|25", "shots": "array"},
    "sora-2-characters": {},
    "sora-watermark-remover": {},
}


def spelled(name: str, schema: dict[str, Any]) -> str:
    """Spell one parameter of a schema as it stands in `TYPES`."""
    item = schema["properties"][name]
    words: str = item["type"] + ("*" if name in schema["required"] else "")
    words += f"[{item['maxItems']}]" if "maxItems" in item else ""
    words += " " + "|".join(map(str, item["enum"])) if "enum" in item else ""
    words += f" {item['maxLength']}" if "maxLength" in item else ""
    words += f" {{{item['minimum']},{item['maximum']}}}" if "minimum" in item else ""
    return words + (f" ={item['default']}" if "default" in item else "")


def test_the_models_are_those_of_the_documents() -> None:
    assert MODELS.keys() == TYPES.keys()


@pytest.mark.parametrize("model", TYPES)
def test_a_models_parameters_are_shown_as_its_page_has_them(model: str) -> None:
    schema = MODELS[model].schema()
    assert {name: spelled(name, schema) for name in TYPES[model]} == TYPES[model]
    assert MODELS[model].title


@pytest.mark.parametrize("model", TYPES)
def test_nothing_is_refused_and_nothing_is_added_on_the_word_of_a_hint(model: str) -> None:
    hints = MODELS[model]
    given = {"anything": [None], "duration": {}, "prompt": 7, "resolution": "8k"}
    hints.validate(given)
    hints.validate({})
    assert not hints.is_validated
    assert hints.with_defaults(given) == given
    assert hints.schema()["additionalProperties"] is True


CREDITS: list[tuple[str, dict[str, Any], float | None]] = [
    ("bytedance/seedance-2", {}, 205),  # 5 s of 720p at $0.205
    ("bytedance/seedance-2", {"resolution": "480p", "duration": 4}, 76),
    ("bytedance/seedance-2", {"resolution": "1080p", "duration": 10}, 1020),
    ("bytedance/seedance-2", {"resolution": "4k"}, 1040),
    ("bytedance/seedance-2", {"reference_video_urls": ["u"]}, None),
    ("bytedance/seedance-2", {"reference_video_urls": []}, 205),
    ("bytedance/seedance-2", {"duration": "soon"}, None),
    ("bytedance/seedance-2", {"duration": -5}, None),
    ("bytedance/seedance-2", {"duration": None}, None),
    ("bytedance/seedance-2-fast", {"resolution": "480p"}, 77.5),
    ("bytedance/seedance-2-fast", {}, 165),
    ("bytedance/seedance-2-fast", {"resolution": "1080p"}, None),
    ("bytedance/seedance-1.5-pro", {"duration": 8}, 28),
    ("bytedance/seedance-1.5-pro", {"duration": 8, "generate_audio": True}, 56),
    ("bytedance/seedance-1.5-pro", {"duration": 4.5, "resolution": "1080p"}, 33.75),
    ("bytedance/seedance-1.5-pro", {}, 42),  # its longest, 12 s
    ("bytedance/v1-pro-text-to-video", {}, None),
    ("kling-3.0/video", {}, 90),  # pro is 1080p, at $0.09
    ("kling-3.0/video", {"mode": "std", "duration": "3"}, 42),
    ("kling-3.0/video", {"mode": "std", "sound": True, "duration": "10"}, 200),
    ("kling-3.0/video", {"mode": "4K", "sound": True}, 335),
    ("kling/v3-turbo-text-to-video", {}, 90),
    ("kling/v3-turbo-image-to-video", {"resolution": "1080p", "duration": "10"}, 225),
    ("kling-2.6/text-to-video", {"duration": "5", "sound": False}, 55),
    ("kling-2.6/image-to-video", {"duration": "10", "sound": True}, 220),
    ("kling-2.6/text-to-video", {"duration": "5"}, 110),  # with sound, which doubles it
    ("kling-2.6/text-to-video", {"sound": False}, 110),
    ("kling/v2-5-turbo-text-to-video-pro", {}, None),
    ("wan/2-7-text-to-video", {}, 120),
    ("wan/2-7-image-to-video", {"resolution": "720p", "duration": 2}, 32),
    ("wan/2-6-text-to-video", {}, 104.5),
    ("wan/2-6-image-to-video", {"resolution": "720p", "duration": "15"}, 210),
    ("hailuo/2-3-image-to-video-pro", {}, 45),
    ("hailuo/2-3-image-to-video-pro", {"duration": "10"}, 90),
    ("hailuo/2-3-image-to-video-pro", {"duration": "10", "resolution": "1080P"}, None),
    ("hailuo/2-3-image-to-video-standard", {"resolution": "1080P"}, 50),
    ("grok-imagine/text-to-video", {"resolution": "480p", "duration": 6}, 9.6),
    ("grok-imagine/text-to-video", {"resolution": "720p", "duration": "10"}, 30),
    ("grok-imagine/text-to-video", {"resolution": "720p"}, 90),
    ("grok-imagine/text-to-video", {}, 90),
    ("grok-imagine/text-to-video", {"resolution": "720p", "duration": 1e12}, 1e12),
    ("happyhorse-1-1/text-to-video", {}, 145),
    ("happyhorse-1-1/reference-to-video", {"resolution": "720p", "duration": 4}, 90),
    ("gemini-omni-video", {"duration": "8"}, 150),
    ("gemini-omni-video", {}, 180),
    ("gemini-omni-video", {"duration": "8", "resolution": "4k"}, 270),
    ("gemini-omni-video", {"duration": "8", "video_list": [{"url": "u"}]}, None),
    ("veo3_lite", {}, 30),
    ("veo3_fast", {}, 60),
    ("veo3", {}, 250),
    ("veo3", {"resolution": "4k"}, 370),
    ("sora-2-text-to-video", {}, 30),
    ("sora-2-image-to-video", {"n_frames": "15"}, None),
    ("sora-2-pro-storyboard", {}, None),
]


@pytest.mark.parametrize(("model", "given", "credits_"), CREDITS)
def test_an_estimate_is_the_lists_price_at_half_a_cent_a_credit(
    model: str, given: dict[str, Any], credits_: float | None
) -> None:
    assert MODELS[model].estimate({"prompt": "x"} | given) == credits_


@pytest.mark.parametrize("model", TYPES)
def test_a_model_with_a_price_shows_it_and_one_without_shows_none(model: str) -> None:
    assert bool(MODELS[model].price) == bool(MODELS[model].price_note)


def test_a_hint_is_no_validation_even_where_it_is_plainly_wrong() -> None:
    with pytest.raises(Invalid):
        FAMILIES["revid"].models["sora-2-text-to-video"].validate({"prompt": 7})
    MODELS["sora-2-text-to-video"].validate({"prompt": 7})
