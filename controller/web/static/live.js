"use strict";
// Keeps a page as it is now: when the controller says that something changed, the same
// page is fetched again and its main part put in the place of the old one. Without this
// the page is the same, until it is loaded anew.
(() => {
  const live = document.getElementById("live");
  let fetching = false;
  let again = false;
  let away = 0;
  let seen; // the newest change that the page shows
  let told = "";

  // tell says how the connection is, once: a screen reader reads it out.
  function tell(text, bad) {
    live.hidden = false;
    live.classList.toggle("lost", bad);
    if (text !== told) {
      told = text;
      live.textContent = text;
    }
  }

  // ago is an age in words, as the server has it.
  function ago(seconds) {
    if (seconds < 5) return "just now";
    if (seconds < 120) return `${Math.floor(seconds)} seconds ago`;
    if (seconds < 120 * 60) return `${Math.floor(seconds / 60)} minutes ago`;
    if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)} hours ago`;
    return `${Math.floor(seconds / 86400)} days ago`;
  }

  // Ages count on the server's clock: ours may be another one.
  let offset = 0;
  function setClock() {
    offset = Date.parse(document.getElementById("main").dataset.at) - Date.now();
  }
  function age() {
    for (const t of document.querySelectorAll("main time[title]")) {
      const words = ago((Date.now() + offset - Date.parse(t.dateTime)) / 1000);
      if (t.textContent !== words) t.textContent = words;
    }
  }

  function filter() {
    const box = document.getElementById("filter");
    if (!box) return;
    box.hidden = document.querySelectorAll("[data-name]").length < 8;
    const wanted = document.getElementById("name").value.trim().toLowerCase();
    for (const stack of document.querySelectorAll("[data-name]")) {
      stack.hidden = !stack.dataset.name.includes(wanted);
    }
  }

  // put takes over a newer page; what somebody opened, typed or stands on stays so.
  function put(text) {
    const next = new DOMParser().parseFromString(text, "text/html");
    const before = document.getElementById("main");
    const after = next.getElementById("main");
    if (!after) return;
    for (const d of before.querySelectorAll("details[id]")) {
      const same = after.querySelector("#" + CSS.escape(d.id));
      if (same) same.open = d.open;
    }
    const typed = document.getElementById("name");
    const box = after.querySelector("#name");
    if (typed && box) box.value = typed.value;
    const focus = place(document.activeElement, before);
    for (const wide of before.querySelectorAll(".wide")) {
      const same = [...after.querySelectorAll(".wide")].find((w) => w.ariaLabel === wide.ariaLabel);
      if (same) same.dataset.left = wide.scrollLeft;
    }
    const selection = typed && document.activeElement === typed ? typed.selectionStart : null;
    before.replaceWith(document.adoptNode(after));
    for (const wide of document.querySelectorAll(".wide[data-left]")) wide.scrollLeft = Number(wide.dataset.left);
    document.title = next.title;
    for (const part of [".who", "footer"]) {
      const fresh = next.querySelector(part);
      const old = document.querySelector(part);
      if (fresh && old && fresh.textContent !== old.textContent && !old.contains(document.activeElement)) {
        old.replaceWith(document.adoptNode(fresh));
      }
    }
    filter();
    const target = find(focus);
    if (target) {
      target.focus({ preventScroll: true });
      if (selection !== null) target.setSelectionRange(selection, selection);
    }
    setClock();
  }

  // place says which element has the focus, in words that hold in a newer page.
  function place(element, within) {
    if (!element || !within.contains(element)) return null;
    if (element.id) return { id: element.id };
    if (element.tagName === "SUMMARY") return { summary: element.parentElement.id };
    if (element.tagName === "A") return { href: element.getAttribute("href") };
    return { id: "main" };
  }
  function find(p) {
    if (!p) return null;
    if (p.id) return document.getElementById(p.id);
    if (p.summary) return document.querySelector("#" + CSS.escape(p.summary) + " > summary");
    return [...document.querySelectorAll("main a")].find((a) => a.getAttribute("href") === p.href);
  }

  async function load() {
    if (fetching || document.hidden) {
      again = true;
      return;
    }
    fetching = true;
    again = false;
    try {
      const answer = await fetch(location.pathname, { credentials: "same-origin", redirect: "error" });
      if (answer.ok) {
        put(await answer.text());
      } else if (answer.status === 404) {
        tell("This stack is gone", true);
      }
    } catch {
      again = true; // the stream tells when there is a connection again
    } finally {
      fetching = false;
    }
    if (again && !away) setTimeout(load, 1000);
  }

  setClock();
  filter();
  document.addEventListener("input", (e) => {
    if (e.target.id === "name") filter();
  });
  setInterval(age, 5000);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && again) load();
  });

  const stream = new EventSource("/events");
  stream.addEventListener("changed", (e) => {
    clearTimeout(away);
    away = 0;
    tell("Live", false);
    if (seen !== undefined && seen !== e.data) load();
    else if (seen === undefined) load(); // it may have changed since it was sent
    seen = e.data;
  });
  stream.addEventListener("error", () => {
    if (!away) away = setTimeout(() => tell("Not live: no connection", true), 2000);
    if (stream.readyState === EventSource.CLOSED) tell("Not live: load the page anew to see more", true);
  });
})();
