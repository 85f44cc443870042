"""The page in a real browser, Debian's Chromium, with scripts switched off and on."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from rag.keys import KeyFile
from tests.served import ARTICLES, JSON, running

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--headless",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHONE, DESK = ViewportSize(width=390, height=844), ViewportSize(width=1200, height=800)

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a server with the articles is; the first of them is long.

    It ranks by words alone: the fake encoder's vectors of filler mean nothing.
    """
    long = ARTICLES[0] | {"text": f"{'Filler. ' * 30}\n\n" * 20 + ARTICLES[0]["text"]}
    index = tmp_path_factory.mktemp("served") / "index"
    with running(index, lexical_weight=1.0) as (_, port):
        address = f"http://127.0.0.1:{port}"
        body = json.dumps([long, *ARTICLES[1:]]).encode()
        request = urllib.request.Request(f"{address}/articles", body, JSON)
        with urllib.request.urlopen(request, timeout=60) as response:
            assert json.load(response)["added"] == 3
        yield address


@pytest.fixture(params=[False, True], ids=["without scripts", "with scripts"])
def page(request: pytest.FixtureRequest, browser: Browser, address: str) -> Iterator[Page]:
    """A page that fails its test if anything is asked of another server, or complains."""
    context = browser.new_context(
        base_url=address, java_script_enabled=request.param, viewport=DESK
    )
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("request", lambda sent: _note_stranger(sent.url, address, complaints))
    yield page
    context.close()
    assert complaints == []


def _note_stranger(url: str, address: str, complaints: list[str]) -> None:
    if not url.startswith((f"{address}/", "data:")):
        complaints.append(url)


def test_a_question_is_asked_and_its_quote_opened(page: Page) -> None:
    page.goto("/")
    field = page.get_by_label("Your question")
    expect(field).to_be_focused()
    field.fill("who warned of spillover?")
    field.press("Enter")
    expect(field).to_have_value("who warned of spillover?")
    expect(page.locator("mark").first).to_have_text("Vera Okafor warned of spillover on May 4.")
    assert page.locator("mark b").all_inner_texts()[:2] == ["warned", "spillover"]
    page.get_by_role("link", name="Envoy warns of spillover", exact=True).first.click()
    quote = page.locator("#quote")
    expect(quote).to_have_text("Vera Okafor warned of spillover on May 4.")
    expect(quote).to_be_in_viewport()  # far down, so the browser went there
    assert page.url.endswith("#quote")
    page.go_back()
    expect(field).to_have_value("who warned of spillover?")


def test_the_dates_are_asked_for_by_hand(page: Page) -> None:
    page.goto("/")
    page.get_by_label("Your question").fill("harbour")
    page.get_by_text("Only from certain dates").click()
    page.get_by_label("Published from").fill("2024-01-01")
    page.get_by_label("to", exact=True).fill("2024-12-31")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("h2")).to_have_text(["The harbour reopens"])
    expect(page.get_by_text("1 article has no date")).to_be_visible()
    expect(page.get_by_label("Published from")).to_have_value("2024-01-01")


def test_the_page_has_its_style_and_fits_a_phone(page: Page) -> None:
    page.set_viewport_size(PHONE)
    for address in ("/", "/?q=spillover", "/read/spillover"):
        page.goto(address)
        width = page.locator("html").evaluate("element => element.scrollWidth")
        assert width <= PHONE["width"]
    button = page.goto("/") and page.get_by_role("button", name="Ask")
    assert button
    box = button.bounding_box()
    assert box is not None
    assert box["height"] >= 40  # a finger's width, which only the style gives it


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_schemes(scheme: str, browser: Browser, address: str) -> None:
    context = browser.new_context(base_url=address, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto("/?q=spillover")
    for selector in ("body", ".soft", ".card .text", "mark", ".card a", "button"):
        ratio = page.locator(selector).first.evaluate(CONTRAST)
        assert ratio >= 4.5, (selector, ratio)  # WCAG 2.2, 1.4.3
    context.close()


CONTRAST = """element => {
  const numbers = color => color.match(/[\\d.]+/g).map(Number);
  const light = color => {
    const [r, g, b] = numbers(color).slice(0, 3).map(value => value / 255)
      .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let behind = element;
  while (numbers(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
  const two = [light(getComputedStyle(element).color),
               light(getComputedStyle(behind).backgroundColor)].sort((a, b) => b - a);
  return (two[0] + 0.05) / (two[1] + 0.05);
}"""


SCRIPT = "document.title = 'owned'; alert(1); fetch('http://evil.example/')"
MARKUP = (
    f'</title></style><script>{SCRIPT}</script><img src=http://evil.example/x onerror="{SCRIPT}">'
    f'\'" autofocus onfocus="{SCRIPT}" x=\'<svg onload="{SCRIPT}">'
    "<iframe src=//evil.example></iframe><meta http-equiv=refresh content=0;url=//evil.example>"
)
ADDRESSES = [
    f"javascript:{SCRIPT}",
    f" JaVaScRiPt\t:{SCRIPT}",
    f"data:text/html,<script>{SCRIPT}</script>",
    "vbscript:msgbox(1)",
    f'https://news.example/" onclick="{SCRIPT}',
]


def test_articles_that_are_scripts_are_only_read(browser: Browser, tmp_path: Path) -> None:
    fields = dict.fromkeys(("title", "source", "author"), MARKUP)
    articles = [
        {"id": f"{MARKUP}{at}", **fields, "text": f"A quokka {at}. {MARKUP}", "url": url}
        for at, url in enumerate(ADDRESSES)
    ]
    happened: list[str] = []
    with running(tmp_path / "index", lexical_weight=1.0) as (_, port):
        address = f"http://127.0.0.1:{port}"
        request = urllib.request.Request(f"{address}/articles", json.dumps(articles).encode(), JSON)
        urllib.request.urlopen(request, timeout=60).close()
        context = browser.new_context(base_url=address)
        page = context.new_page()
        page.on("dialog", lambda dialog: happened.append(dialog.message))
        page.on("request", lambda sent: _note_stranger(sent.url, address, happened))
        page.goto(f"/?{urlencode({'q': f'quokka {MARKUP}', 'from': MARKUP})}")
        expect(page.get_by_role("alert")).to_contain_text("<script>")
        page.on("console", lambda message: happened.append(message.text))
        for at in range(len(ADDRESSES)):
            page.goto(f"/?{urlencode({'q': f'quokka {at} {MARKUP}'})}")
            expect(page.locator("h2").first).to_have_text(MARKUP)
            links = page.locator("a").evaluate_all("links => links.map(link => link.href)")
            assert all(link.startswith((address, "https://news.example/")) for link in links)
            page.locator("h2 a").first.click()
            expect(page.locator("h1")).to_have_text(MARKUP)
            expect(page.locator(".text mark").first).to_be_visible()
            page.wait_for_load_state("networkidle")
            assert page.locator("script, img, svg, iframe, [onclick]").count() == 0
            assert page.title() == MARKUP
        context.close()
    assert happened == []


def test_a_page_elsewhere_can_neither_write_nor_read(browser: Browser, address: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.route("http://evil.example/", lambda route: route.fulfill(body=FORM % (address, address)))
    page.goto("http://evil.example/")
    refused = page.locator("#fetched")
    expect(refused).to_have_text("TypeError")
    with page.expect_response(f"{address}/articles") as response:
        page.get_by_role("button").click()
    assert response.value.status == 403
    context.close()
    with urllib.request.urlopen(f"{address}/articles", timeout=60) as listed:
        assert "planted" not in listed.read().decode()


FORM = """<!doctype html><meta charset="utf-8"><p id="fetched"></p>
<form action="%s/articles" method="post" enctype="text/plain">
<input name='{"id": "planted", "text": "' value='planted"}'><button>Win</button></form>
<script>
fetch("%s/articles").catch(error => { fetched.textContent = error.name; });
</script>"""


@pytest.mark.parametrize("known", [True, False])
def test_a_browser_with_a_key_shows_the_page(known: bool, browser: Browser, tmp_path: Path) -> None:
    """As it does when its user has typed the key into what the browser asks with."""
    _, key = KeyFile(tmp_path).add("reader")
    with running(tmp_path) as (_, port):
        context = browser.new_context(
            base_url=f"http://127.0.0.1:{port}",
            http_credentials={"username": "anna", "password": key if known else "rag_wrong"},
        )
        page = context.new_page()
        response = page.goto("/")
        assert response is not None
        assert response.status == (200 if known else 401)
        if known:
            page.get_by_label("Your question").fill("harbour")
            page.get_by_label("Your question").press("Enter")
            expect(page.get_by_text("Nothing was found")).to_be_visible()
        context.close()
