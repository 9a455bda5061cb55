"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // Tables: a button in each column's head sorts; a second time, the other way around. Empty entries stay last.
  function readKey(row, column) {
    const entry = row.cells[column];
    return entry.dataset.sort === undefined ? entry.textContent : Number(entry.dataset.sort);
  }

  function compareKeys(one, other) {
    if (typeof one === "number" && typeof other === "number") return one - other;
    return String(one).localeCompare(String(other), "en", { numeric: true });
  }

  function sortTable(head, direction) {
    const body = head.closest("table").tBodies[0];
    const column = head.cellIndex;
    const sign = direction === "ascending" ? 1 : -1;
    const keyed = [...body.rows].map((row) => [readKey(row, column), row]);
    const isEmpty = (key) => key === "" || key === "-";
    keyed.sort(([one], [other]) => isEmpty(one) - isEmpty(other) || sign * compareKeys(one, other));
    body.append(...keyed.map(([, row]) => row));
    all("th[aria-sort]", head.closest("tr")).forEach((each) => each.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", direction);
  }

  document.addEventListener("click", (event) => {
    const head = event.target.closest("th[aria-sort]");
    if (!head || !event.target.closest("button")) return;
    sortTable(head, head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending");
  });

  // Weights: the geometric mean of the ratios, as scores.py computes it.
  const scores = document.getElementById("scores");
  const sliders = all("input[data-aspect]");

  function averageRatios(row, weights) {
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    let sum = 0;
    for (const [place, weight] of weights.entries()) {
      const ratio = row.querySelectorAll(".ratio")[place].dataset.sort;
      if (weight > 0 && ratio === undefined) return null;
      if (weight > 0) sum += weight * Math.log(Number(ratio));
    }
    return total > 0 ? Math.exp(sum / total) : null;
  }

  function writeNumber(number) {
    const digits = number >= 100 ? 0 : number >= 10 ? 1 : 2;
    return number.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  }

  function setEntry(entry, text, number) {
    entry.textContent = text;
    if (number === null) delete entry.dataset.sort;
    else entry.dataset.sort = number;
  }

  function weigh() {
    const weights = sliders.map((slider) => Number(slider.value));
    const rows = [...scores.tBodies[0].rows].map((row) => [row, averageRatios(row, weights)]);
    const ahead = [];
    for (const [row, mean] of rows) {
      const better = rows.filter(([, other]) => other !== null && other * Number(scores.dataset.same) < mean);
      const rank = mean === null ? null : better.length + 1;
      setEntry(row.querySelector(".score"), mean === null ? "-" : writeNumber(mean), mean);
      setEntry(row.querySelector(".rank"), rank === null ? "-" : String(rank), rank);
      if (rank === 1) ahead.push(row.cells[0].textContent);
    }
    sortTable(all("th", scores.tHead)[2], "ascending");
    const nothing = weights.some(Boolean) ? "No backend was measured in all weighted aspects." : "All weights are 0.";
    document.getElementById("winner").textContent = ahead.length ? `Ahead: ${ahead.sort().join(", ")}.` : nothing;
  }

  sliders.forEach((slider) => {
    slider.addEventListener("input", () => {
      document.querySelector(`output[for="${slider.id}"]`).textContent = slider.value;
      weigh();
    });
  });

  // Values of a figure: one stop of the Tab key a figure, arrow keys from value to value; exact figures beside them.
  const tip = document.getElementById("tip");

  function showTip(point) {
    tip.textContent = point.getAttribute("aria-label");
    tip.hidden = false;
    const { left, right, top, bottom } = point.getBoundingClientRect();
    const box = tip.getBoundingClientRect();
    const x = Math.min(Math.max(4, (left + right - box.width) / 2), window.innerWidth - box.width - 4);
    tip.style.left = `${x}px`;
    tip.style.top = `${top > box.height + 12 ? top - box.height - 8 : bottom + 8}px`;
  }

  function hideTip() {
    tip.hidden = true;
  }

  function findStep(key, place, count) {
    const steps = { ArrowRight: place + 1, ArrowDown: place + 1, ArrowLeft: place - 1, ArrowUp: place - 1, Home: 0 };
    const target = key === "End" ? count - 1 : steps[key];
    return target === undefined ? undefined : Math.min(Math.max(target, 0), count - 1);
  }

  all("svg.chart").forEach((chart) => {
    const points = all(".point", chart);
    points.forEach((point, place) => {
      point.setAttribute("tabindex", place === 0 ? "0" : "-1");
      point.addEventListener("pointerenter", () => showTip(point));
      point.addEventListener("pointerleave", hideTip);
      point.addEventListener("focus", () => showTip(point));
      point.addEventListener("blur", hideTip);
      point.addEventListener("keydown", (event) => {
        const target = findStep(event.key, place, points.length);
        if (target === undefined) return;
        event.preventDefault();
        point.setAttribute("tabindex", "-1");
        points[target].setAttribute("tabindex", "0");
        points[target].focus();
      });
    });
  });
  document.addEventListener("keydown", (event) => event.key === "Escape" && hideTip());
  function followPoint() {
    if (document.activeElement.matches(".point")) showTip(document.activeElement);
    else hideTip();
  }

  document.addEventListener("scroll", followPoint, { passive: true, capture: true });

  // Without JavaScript what it needs stays hidden.
  all(".weights, .downloads").forEach((each) => each.removeAttribute("hidden"));

  // What is packed in the page: tables, which are unpacked when they are opened, and files to download.
  async function unpack(id) {
    const packed = Uint8Array.from(atob(document.getElementById(id).textContent), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  all("details[data-source]").forEach((details) => {
    const open = async () => {
      const html = new TextDecoder().decode(await unpack(details.dataset.source));
      details.insertAdjacentHTML("beforeend", html);
    };
    details.addEventListener("toggle", open, { once: true });
  });

  // The rounds of a run are packed apart: see downloads.py.
  function restoreRounds(bytes) {
    const start = bytes.indexOf(1) + 1;
    const count = (bytes.length - start) / 6;
    const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes.subarray(0, start - 1));
    let place = start;
    return text.replace(/(\n *\0,)\x02(\d+)\x02/g, (_, line, times) => line.repeat(Number(times))).replace(/\0/g, () => {
      let nanoseconds = 0;
      for (let byte = 5; byte >= 0; byte -= 1) nanoseconds = 256 * nanoseconds + bytes[place + byte * count];
      place += 1;
      return writeSeconds(nanoseconds / 1e9);
    });
  }

  function writeSeconds(seconds) {
    if (seconds > 0 && seconds < 1e-4) return seconds.toExponential().replace("e-", "e-0");
    return Number.isInteger(seconds) ? `${seconds}.0` : String(seconds);
  }

  all("button[data-source]").forEach((button) => {
    button.addEventListener("click", async () => {
      const bytes = await unpack(button.dataset.source);
      const content = button.dataset.source === "json" ? restoreRounds(bytes) : bytes;
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([content], { type: button.dataset.type }));
      link.download = button.dataset.name;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    });
  });
})();
