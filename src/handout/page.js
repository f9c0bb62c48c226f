"use strict";
(() => {
  const button = document.getElementById("knock");
  if (!button) return;
  const { host, ports, wait, accept } = document.querySelector("main").dataset;
  const list = ports.split(" ");
  const status = document.getElementById("status");
  const then = document.getElementById("then");
  const clock = document.getElementById("clock");
  let ticking;

  const say = (what, values = {}) => {
    status.textContent = status.dataset[what].replace(/\{(\w+)\}/g, (_, key) => values[key]);
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

  const countDown = () => {
    const end = Date.now() + 1000 * Number(accept);
    const tick = () => {
      const left = Math.max(0, Math.ceil((end - Date.now()) / 1000));
      const seconds = String(left % 60).padStart(2, "0");
      clock.textContent = `${Math.floor(left / 60)}:${seconds}`;
      if (left === 0) {
        clearInterval(ticking);
        then.hidden = true;
        say("over");
      }
    };
    tick();
    ticking = setInterval(tick, 250);
  };

  button.addEventListener("click", async () => {
    if (button.getAttribute("aria-disabled") === "true") return;
    button.setAttribute("aria-disabled", "true");
    clearInterval(ticking);
    then.hidden = true;
    const patience = Number(wait);
    // The first time the name has to be looked up, which must not eat up a knock's time. The same
    // port again starts anew, unless the sequence asks for it twice.
    say("knocking", { port: list[0], n: 1, count: list.length });
    if (list.length > 1 && list[0] !== list[1]) await touch(list[0], 1500);
    for (const [index, port] of list.entries()) {
      say("knocking", { port, n: index + 1, count: list.length });
      await touch(port, patience);
    }
    say("done");
    then.hidden = false;
    if (accept) countDown();
    button.removeAttribute("aria-disabled");
  });
})();
