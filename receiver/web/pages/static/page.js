/* Live updates, and nothing else: every page works without this file.
 *
 * While <main> carries data-every (seconds), the page's own HTML is fetched again and each changed [data-part] replaced.
* data-wait is a URL that answers early when the task is settled. Whatever the reader is in the middle of is left
 * alone: a selection, a playing video, an opened <details>, the focus. Nothing happens while the tab is hidden.
 */
"use strict";

const main = document.querySelector("main");
const served = new Map(parts(main).map((part) => [part.dataset.part, part.innerHTML]));
const RETRY_SECONDS = 10;

function parts(root) {
  return [...root.querySelectorAll("[data-part]")];
}

function sleep(seconds) {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}

function untilVisible() {
  return new Promise((resolve) => {
    const look = () => {
      if (document.hidden) return;
      document.removeEventListener("visibilitychange", look);
      resolve();
    };
    document.addEventListener("visibilitychange", look);
    look();
  });
}

function busy(part) {
  const selection = document.getSelection();
  const selecting = selection && !selection.isCollapsed && selection.containsNode(part, true);
  const playing = [...part.querySelectorAll("video, audio")].some((media) => !media.paused);
  return selecting || playing;
}

/* Returns a selector of the focused element, to find it again after its part was replaced. */
function selectorOf(element) {
  if (element.id) return `#${CSS.escape(element.id)}`;
  if (element.matches("details[id] > summary")) return `#${CSS.escape(element.parentElement.id)} > summary`;
  if (element.matches("a[href]")) return `a[href="${CSS.escape(element.getAttribute("href"))}"]`;
  return "main";
}

function replace(part, fresh) {
  const html = fresh.innerHTML;
  if (served.get(part.dataset.part) === html || busy(part)) return;
  const focused = part.contains(document.activeElement) && selectorOf(document.activeElement);
  const open = new Map([...part.querySelectorAll("details[id]")].map((details) => [details.id, details.open]));
  const keys = new Map([...part.querySelectorAll("details[open] input[name=key]")].map((key, at) => [at, key.value]));
  part.replaceChildren(...fresh.childNodes);
  served.set(part.dataset.part, html);
  for (const details of part.querySelectorAll("details[id]")) {
    if (open.has(details.id)) details.open = open.get(details.id);
  }
  // An order form that is open keeps the key that it was opened with.
  part.querySelectorAll("details[open] input[name=key]").forEach((key, at) => {
    if (keys.has(at)) key.value = keys.get(at);
  });
  if (focused) (part.querySelector(focused) ?? main).focus({ preventScroll: true });
}

async function refresh() {
  const answer = await fetch(location.href, { cache: "no-store", headers: { Accept: "text/html" } });
  if (answer.redirected) return location.reload(); // the session has ended
  if (!answer.ok) throw new Error(answer.statusText);
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const now = fresh.querySelector("main");
  for (const part of parts(main)) {
    const found = now.querySelector(`[data-part="${part.dataset.part}"]`);
    if (found) replace(part, found);
  }
  document.title = fresh.title;
  for (const name of ["every", "wait"]) {
    if (name in now.dataset) main.dataset[name] = now.dataset[name];
    else delete main.dataset[name];
  }
}

async function keepUpdating() {
  while (main.dataset.every) {
    try {
      if (main.dataset.wait) {
        const answer = await fetch(main.dataset.wait, { cache: "no-store" });
        if (!answer.ok) await sleep(RETRY_SECONDS);
      } else {
        await sleep(Number(main.dataset.every));
      }
      await untilVisible();
      await refresh();
    } catch {
      await sleep(RETRY_SECONDS);
      await untilVisible();
    }
  }
}

keepUpdating();
