"""What strangers write, shown on pages, stays text, whatever it is: a page has the elements of a harmless one."""

import base64
import json
import re
from pathlib import Path

import pytest

from receiver.core.states import State
from receiver.web.pages import order_form
from tests.torture.harness import Torture, corpus
from tests.web.site import Page, Site, stranger, tell

pytestmark = pytest.mark.anyio

PAYLOADS = [
    "<script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "</textarea><script>alert(1)</script>",
    "</pre></code></details><img src=x onerror=alert(1)>",
    "</script><script>alert(1)//",
    "<!--<script>-->alert(1)<!--</script>-->",
    "--><svg/onload=alert(1)>",
    "]]><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "' onfocus='alert(1)' autofocus='",
    "` onerror=alert(1) `",
    " onerror=alert(1) x=",
    "<svg><script>alert&#40;1&#41;</script></svg>",
    "<svg><animate onbegin=alert(1) attributeName=x>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<iframe src=javascript:alert(1)></iframe>",
    "<object data='javascript:alert(1)'></object>",
    "<embed src='javascript:alert(1)'>",
    "<base href='https://evil.example/'>",
    "<meta http-equiv=refresh content='0;url=https://evil.example/'>",
    "<link rel=stylesheet href=https://evil.example/x.css>",
    "<form action=https://evil.example/><button>Log in</button></form>",
    "<button form=f formaction=https://evil.example/>x</button>",
    "<a href=javascript:alert(1)>x</a>",
    "<a href='data:text/html,<script>alert(1)</script>'>x</a>",
    "<details open ontoggle=alert(1)>",
    "<video><source onerror=alert(1)></video>",
    "<template><script>alert(1)</script></template>",
    "<style>*{background:url(https://evil.example/)}</style>",
    "<ScRiPt\x0bsrc=//evil.example>",
    "<<script>script>alert(1)<</script>/script>",
    "<img/src='x'/onerror=alert(1)//",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "\\u003cscript\\u003ealert(1)\\u003c/script\\u003e",
    "+ADw-script+AD4-alert(1)+ADw-/script+AD4-",
    "\uff1cscript\uff1ealert(1)\uff1c/script\uff1e",
    "{{ 7*7 }}{% set x = 1 %}{# x #}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "${7*7} #{7*7} <%= 7*7 %>",
    "x\r\nSet-Cookie: a=b\r\n\r\n<script>alert(1)</script>",
    "\u202e\u2066<script>\u2069",
    "\x00<script>alert(1)</script>",
    "\ud800<script>alert(1)</script>\udfff",
    "<" * 5000,
    "'\"><" * 1000,
]
ADDRESSES = [
    *("javascript:alert(1)", "JaVaScRiPt:alert(1)", "java\tscript:alert(1)", "java\nscript:alert(1)"),
    *(" javascript:alert(1)", "\x01javascript:alert(1)", "javascript&colon;alert(1)", "javascript://evil/%0aalert(1)"),
    *("data:text/html,<script>alert(1)</script>", "data:image/svg+xml,<svg/onload=alert(1)>", "vbscript:alert(1)"),
    *("//evil.example/a.mp4", "///evil.example/a.mp4", "\\\\evil.example\\a.mp4", "/tasks", "a.mp4", "?x", "#x"),
    *(
        "file:///etc/passwd",
        "blob:https://evil.example/x",
        "ftp://evil.example/a.mp4",
        "view-source:https://evil.example",
    ),
    *("http:evil.example", "https:/evil.example", "https:///evil.example", "https://", "http://[", "https://[::1"),
    *("mailto:a@b.c", "intent://x#Intent;end", "ws://evil.example", "", "https//evil.example", "://evil.example"),
    *(
        "https://evil.example/\r\nx",
        "https://evil.example/ x",
        "https://\u202eelpmaxe.live/",
    ),
]
"""What is no address on the web, or not just one."""
LINKS = [
    """https://evil.example/"onmouseover="alert(1)""",
    """https://evil.example/'><script>alert(1)</script>""",
    "http://evil.example/?a=<img/src=x/onerror=alert(1)>&amp;b=javascript:alert(1)",
    "https://user:password@evil.example/a.mp4#javascript:alert(1)",
    "HTTPS://EVIL.EXAMPLE/A.MP4",
]
"""What is one, and tries to be more."""


def naughty() -> list[str]:
    """The corpus of naughty strings, as its authors keep it in base 64 or as plain JSON; empty ones say nothing."""
    place: Path = corpus("big-list-of-naughty-strings")
    return [text for text in json.loads((place / "blns.json").read_text()) if text.strip()]


def assert_as_harmless(page: Page, shape: list[tuple[str, list[str]]]) -> None:
    """Hold a page to another one's elements, to our one script, and to addresses that are ours or on the web."""
    assert page.shape == shape
    assert [given for tag, given in page.elements if tag == "script"] == [{"src": "/static/page.js", "defer": ""}]
    assert not [name for _, given in page.elements for name in given if name.startswith("on") or name == "style"]
    for address in [address for name in ("href", "src", "action", "formaction") for address in page.all(name)]:
        assert re.match(r"(/(?![/\\])|#|\?|https?://[^/\\])", address, re.IGNORECASE), address


async def shown(site: Site, words: str, url: str) -> tuple[Page, Page]:
    """Show a task full of some words by itself and in the list."""
    task_id = await tell(site, words, url)
    return await site.page(f"/tasks/{task_id}"), await site.page(f"/?q={task_id}")


async def assert_text(site: Site, words: list[str]) -> None:
    calm = [page.shape for page in await shown(site, "calm", "calm")]
    for each in words:
        for page, shape in zip(await shown(site, each, each if ":" not in each else "calm"), calm, strict=True):
            assert_as_harmless(page, shape)


@pytest.mark.row("F1")
async def test_what_strangers_write_stays_text(site: Site) -> None:
    await assert_text(site, PAYLOADS)


@pytest.mark.row("F1")
async def test_naughty_strings_stay_text(site: Site, torture: Torture) -> None:
    words = naughty()
    chosen = torture.random.sample(words, torture.size(40, len(words)))
    await assert_text(site, chosen)
    torture.figures(naughty_strings=len(chosen), payloads=len(PAYLOADS), addresses=len(ADDRESSES) + len(LINKS))


@pytest.mark.row("F1")
async def test_only_an_address_on_the_web_is_a_link(site: Site) -> None:
    calm = (await shown(site, "calm", "calm"))[0].shape
    for url in ADDRESSES:
        page, _ = await shown(site, "calm", url)
        assert_as_harmless(page, calm)
    linked = (await shown(site, "calm", "https://cdn.example/a.mp4"))[0].shape
    over_http = (await shown(site, "calm", "http://cdn.example/a.mp4"))[0].shape
    for url in LINKS:
        page, _ = await shown(site, "calm", url)
        assert_as_harmless(page, over_http if url.startswith("http:") else linked)
        assert [given["rel"] for tag, given in page.elements if tag == "a" and url in given.values()] == [
            "noopener noreferrer nofollow"
        ]


@pytest.mark.row("F1")
async def test_what_a_browser_sends_comes_back_as_text(site: Site) -> None:
    """In searches, in the address of nothing, in a form that is wrong, in the way back from the login."""
    csrf = (await site.page("/")).forms["/logout"]["csrf"]
    failed = await site.add(State.FAILED)

    async def echoes(words: str) -> list[Page]:
        words = words.encode("utf-8", "replace").decode()
        form = {"csrf": csrf, "key": "k", "provider": "revid", "model": words, order_form.EXTRA: f"not JSON {words}"}
        async with stranger(site, client=(f"client {len(words)} {words[:40]}", 1)) as other:
            login = await other.get("/login", params={"next": words, "token": words})
            most = words[:600]  # what its form may hold
            wrong = await other.post("/login", data={"next": most, "password": most})
        return [
            Page(answer)
            for answer in (
                await site.browser.get("/", params={"q": words[:500], "model": words, "since": words}),
                await site.browser.get("/", params={"state": words, "provider": words, words: words}),
                await site.browser.get("/new", params={"provider": words, "model": words}),
                await site.browser.get("/new", params={"provider": "revid", "model": f"a{words[:150]}"}),
                await site.browser.get("/tasks/x" + base64.urlsafe_b64encode(words.encode()).decode()),
                await site.browser.get(f"/tasks/{failed}", params={"done": words}),
                await site.post("/new", form),
                await site.post("/new", form | {"model": "sora-2-text-to-video", "input.n_frames": words}),
                await site.post(f"/tasks/{failed}/adopt", {"csrf": csrf, "found": "yes", "remote_id": words}),
                login,
                wrong,
            )
        ]

    calm = [page.shape for page in await echoes("calm")]
    for words in PAYLOADS:
        for page, shape in zip(await echoes(words), calm, strict=True):
            assert_as_harmless(page, shape)
