"use strict";
(() => {
  const { host, ports, wait, accept, copy, copied } = document.querySelector("main").dataset;

  // The clipboard proper is for pages that came over https or from a file; over http there is the old
  // way. Where neither works the command stays selected, to be copied by hand.
  const toClipboard = async (code) => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      return true;
    } catch {
      getSelection().selectAllChildren(code);
      return document.execCommand("copy");
    }
  };

  for (const block of document.querySelectorAll(".code")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = copy;
    let back;
    button.addEventListener("click", async () => {
      clearTimeout(back);
      if (!(await toClipboard(block.querySelector("code")))) return;
      button.textContent = copied;
      back = setTimeout(() => (button.textContent = copy), 2000);
    });
    block.append(button);
  }

  const button = document.getElementById("knock");
  if (!button) return;
  const list = ports.split(" ");
  const status = document.getElementById("status");
  const then = document.getElementById("then");
  const clock = document.getElementById("clock");
  const bar = document.getElementById("left");
  let ticking;

  const say = (what, values = {}) => {
    status.textContent = status.dataset[what].replace(/\{(\w+)\}/g, (_, key) => values[key]);
    status.className = what;
  };

  // What counts is the first packet of the connection; that nobody answers is as it should be.
  // Always https, which pages served in any way may ask for.
  const touch = async (port, patience) => {
    const control = new AbortController();
    const timer = setTimeout(() => control.abort(), patience);
    try {
      await fetch(`https://${host}:${port}/`, {
        mode: "no-cors",
        cache: "no-store",
        credentials: "omit",
        referrerPolicy: "no-referrer",
        signal: control.signal,
      });
    } catch {
      // Refused, or not answered in time.
    } finally {
      clearTimeout(timer);
    }
  };

  const inWords = (seconds) => {
    const parts = [Math.floor(seconds / 60) % 60, seconds % 60];
    if (seconds >= 3600) parts.unshift(Math.floor(seconds / 3600));
    return parts.map((part, i) => (i ? String(part).padStart(2, "0") : part)).join(":");
  };

  const countDown = (end) => {
    const tick = () => {
      const left = Math.max(0, Math.ceil((end - Date.now()) / 1000));
      clock.textContent = inWords(left);
      bar.value = left;
      if (left === 0) {
        clearInterval(ticking);
        then.hidden = true;
        say("over");
      }
    };
    tick();
    ticking = setInterval(tick, 250);
  };

  const knock = async () => {
    const patience = Number(wait);
    let last;
    // The first time the name has to be looked up, which must not eat up a knock's time. The same
    // port again starts anew, unless the sequence asks for it twice.
    say("knocking", { port: list[0], n: 1, count: list.length });
    if (list.length > 1 && list[0] !== list[1]) await touch(list[0], 1500);
    for (const [index, port] of list.entries()) {
      say("knocking", { port, n: index + 1, count: list.length });
      last = Date.now();
      await touch(port, patience);
    }
    say("done");
    then.hidden = false;
    // The time runs from when the last knock was sent, not from when it failed.
    if (accept) countDown(last + 1000 * Number(accept));
  };

  button.addEventListener("click", async () => {
    if (button.getAttribute("aria-disabled") === "true") return;
    clearInterval(ticking);
    then.hidden = true;
    if (navigator.onLine === false) {
      say("offline");
      return;
    }
    button.setAttribute("aria-disabled", "true");
    await knock();
    button.removeAttribute("aria-disabled");
  });
})();
