"""What a code inside an HTTP 200 means for a submission: the word of the envelope, and not the words around it."""

import json

import httpx
import pytest

from receiver.core.errors import Busy, ProviderError, Refused, Unconfirmed
from tests.providers.recordings import account, answered, submitting

families = pytest.mark.parametrize(
    ("family", "message"), [("apixo", "message"), ("revid", "msg"), ("kie", "msg"), ("kie", "message")]
)

MEANINGS: dict[int, type[ProviderError]] = {
    **dict.fromkeys((400, 401, 402, 403, 404, 409, 413, 422), Refused),  # faults of the client
    **dict.fromkeys((433, 451, 455, 505), Refused),  # a quota, an image out of reach, maintenance, a disabled feature
    429: Busy,
    **dict.fromkeys((408, 500, 501, 502, 503, 531, 550, 999, -1), Unconfirmed),  # nobody knows
    200: Unconfirmed,  # success, and no id
}
DOCUMENTED: dict[tuple[str, int], type[ProviderError]] = {("kie", 531): Refused}  # failed, and the credits are back


@families
@pytest.mark.parametrize("code", MEANINGS)
@pytest.mark.parametrize("spelled", [int, str])
def test_a_code_says_what_became_of_an_order_by_itself(family: str, message: str, code: int, spelled: type) -> None:
    body = json.dumps({"code": spelled(code), message: "Well."})
    with pytest.raises(ProviderError) as caught:
        answered(submitting(account(family)), httpx.Response(200, content=body))
    assert caught.type is DOCUMENTED.get((family, code), MEANINGS[code])


@families
@pytest.mark.parametrize(
    "words",
    [
        "This interface is temporarily paused",
        "The feature is DISABLED",
        "model not found",
        "prompt is required",
    ],
)
def test_a_code_that_is_not_success_refuses_where_its_words_say_no(family: str, message: str, words: str) -> None:
    body = json.dumps({"code": 500, message: words})
    with pytest.raises(Refused) as caught:
        answered(submitting(account(family)), httpx.Response(200, content=body))
    assert (caught.value.code, caught.value.message, caught.value.http_status) == ("500", words, 200)


@families
def test_words_without_a_code_refuse_nothing(family: str, message: str) -> None:
    taken = {message: "No confirmation required", "data": {"taskId": "t"}}
    assert answered(submitting(account(family)), httpx.Response(200, json=taken)).remote_id == "t"
    with pytest.raises(Unconfirmed):
        answered(submitting(account(family)), httpx.Response(200, json={message: "Confirmation required"}))


@families
def test_success_is_not_undone_by_its_words(family: str, message: str) -> None:
    taken = {"code": 200, message: "Nothing invalid, nothing required", "data": {"taskId": "t"}}
    assert answered(submitting(account(family)), httpx.Response(200, json=taken)).remote_id == "t"
