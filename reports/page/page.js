"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // What scrolls sideways says so.
  const sizes = new ResizeObserver((entries) => entries.forEach(({ target }) => {
    target.toggleAttribute("data-wide", target.scrollWidth > target.clientWidth);
  }));
  const watchScrolling = () => all(".scroll").forEach((each) => sizes.observe(each));
  watchScrolling();

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

  // The controls choose one of the packed views; the fragment of the address keeps what differs from the default.
  const view = document.getElementById("view");
  const controls = all("#controls :is(select, input)");
  const sliders = all("#controls input");
  const chosen = { use: "", backend: "" };
  let latest = 0;

  function readDefault(control) {
    return control.options ? [...control.options].find((option) => option.defaultSelected).value : control.defaultValue;
  }

  function readState(name) {
    return document.querySelector(`#controls select[name="${name}"]`)?.value ?? view.dataset[name];
  }

  function writeFragment() {
    const changed = controls.filter((control) => control.value !== readDefault(control));
    const state = changed.map((control) => [control.name, control.value]);
    if (chosen.use) state.push(...Object.entries(chosen));
    const fragment = new URLSearchParams(state).toString();
    history.replaceState(null, "", fragment ? `#${fragment}` : location.pathname + location.search);
  }

  function readFragment() {
    const fragment = location.hash.slice(1);
    if (fragment && !fragment.includes("=")) return;
    const state = new URLSearchParams(fragment);
    for (const control of controls) {
      control.value = state.get(control.name) ?? readDefault(control);
      if (control.options && control.selectedIndex < 0) control.value = readDefault(control);
    }
    Object.assign(chosen, { use: state.get("use") ?? "", backend: state.get("backend") ?? "" });
    showState();
  }

  async function showState() {
    const turn = (latest += 1);
    const drawn = JSON.parse(new TextDecoder().decode(await unpack("views")));
    if (turn !== latest) return;
    const key = ["images", "cache", "workers", "payload"].map(readState).join("/");
    const [matrix, bars, split] = drawn[key] ?? ["<p>Not measured in this combination.</p>", "", ""];
    view.innerHTML = matrix;
    document.getElementById("bars").innerHTML = bars;
    document.getElementById("split").innerHTML = split;
    document.getElementById("state").textContent = document.getElementById("matrix")?.dataset.title ?? key;
    for (const each of all("[data-payload]:is(.figure, .snippet)")) {
      const { payload, cache } = each.dataset;
      each.hidden = payload !== readState("payload") || (cache && cache !== readState("cache"));
    }
    prepareCells();
    weigh();
    showCell();
  }

  // Scores: the geometric mean of the multiples, by weight, as matrix.py computes it.
  function scoreRow(row, weights) {
    const cells = new Map(all("[data-ratio]", row).map((cell) => [cell.dataset.use, Math.log(cell.dataset.ratio)]));
    const total = [...weights.values()].reduce((sum, weight) => sum + weight, 0);
    let sum = 0;
    for (const [use, weight] of weights) {
      if (weight > 0 && !cells.has(use)) return Infinity;
      if (weight > 0) sum += weight * cells.get(use);
    }
    return total > 0 ? Math.exp(sum / total) : Infinity;
  }

  function writeNumber(number) {
    const digits = number >= 100 ? 0 : number >= 10 ? 1 : 2;
    return number.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  }

  function weigh() {
    sliders.forEach((slider) => (document.querySelector(`output[for="${slider.id}"]`).textContent = slider.value));
    const uses = all("#matrix thead [data-use]").map((head) => head.dataset.use);
    const weights = new Map(uses.map((use) => [use, Number(sliders.find((slider) => slider.name === use).value)]));
    const scored = all("#matrix tbody tr").map((row) => [scoreRow(row, weights), row]);
    scored.sort(([one, first], [other, second]) =>
      one === other ? first.dataset.backend.localeCompare(second.dataset.backend, "en") : one - other);
    for (const [score, row] of scored) {
      row.querySelector(".score").textContent = score < Infinity ? writeNumber(score) : "-";
      row.parentElement.append(row);
    }
    document.getElementById("sentence").textContent = writeSentence(scored);
    showUse();
  }

  // As sentence.py writes it.
  function writeSentence(scored) {
    if (!scored.length) return "Not measured in this combination.";
    const [[best, { dataset }], ...others] = scored;
    if (best === Infinity) return "No backend was measured in all uses with a weight.";
    const close = others.filter(([score]) => score < view.dataset.same * best).map(([, row]) => row);
    const names = close.map((row) => row.dataset.backend);
    const { what, price } = document.getElementById("matrix").dataset;
    const sentences = [`Use ${dataset.backend}${what}: ${dataset.pitch}.`];
    const joined = names.length > 1 ? `${names.slice(0, -1).join(", ")} and ${names.at(-1)}` : names[0];
    const text = names.length > view.dataset.crowd ? `${names.length} others` : joined;
    if (names.length) sentences.push(`${text} ${names.length === 1 ? "is" : "are"} as good.`);
    const isPopular = [scored[0][1], ...close].some((row) => "popular" in row.dataset);
    return [...sentences, ...(isPopular || !price ? [] : [price])].join(" ");
  }

  // Cells: one stop of the Tab key a matrix, arrow keys from cell to cell, Enter chooses.
  function prepareCells() {
    document.getElementById("matrix")?.setAttribute("role", "grid");
    all("#matrix [data-ratio]").forEach((cell, place) => cell.setAttribute("tabindex", place ? "-1" : "0"));
    for (const entry of all(".cards .entry")) {
      entry.setAttribute("role", "button");
      entry.setAttribute("tabindex", "0");
    }
    watchScrolling();
  }

  async function showCell() {
    const region = document.getElementById("cell");
    all("#matrix [data-ratio]").forEach((cell) => {
      const { use, backend } = cell.dataset;
      cell.setAttribute("aria-selected", use === chosen.use && backend === chosen.backend);
    });
    const use = all("#matrix thead [data-use]").find((head) => head.dataset.use === chosen.use);
    region.hidden = true;
    if (!use) return;
    const turn = latest;
    const sources = all("#rounds details[data-source]").map((each) => unpack(each.dataset.source));
    const tables = (await Promise.all(sources)).map((bytes) => {
      const holder = document.createElement("template");
      holder.innerHTML = new TextDecoder().decode(bytes);
      return holder.content.firstElementChild;
    });
    if (turn !== latest) return;
    const wanted = { backend: chosen.backend, payload: readState("payload"), images: readState("images") };
    const rows = tables.flatMap((table) => all("tbody tr", table)).filter(({ dataset }) =>
      use.dataset.operations.split(" ").includes(dataset.operation) && Object.entries(wanted).every(([name, value]) => dataset[name] === value));
    const [table] = tables;
    table.querySelector("tbody").replaceChildren(...rows);
    const title = rows.length ? "all that was measured" : "nothing was measured; see the projection";
    table.querySelector("caption span").textContent = `${chosen.backend}, ${use.dataset.title}: ${title}`;
    table.setAttribute("aria-label", "Rounds of the chosen cell");
    region.firstElementChild.replaceChildren(table);
    region.hidden = false;
    watchScrolling();
  }

  function choose(cell) {
    Object.assign(chosen, { use: cell.dataset.use, backend: cell.dataset.backend });
    latest += 1;
    writeFragment();
    showCell();
    showUse();
  }

  function moveFrom(cell, key) {
    const row = cell.parentElement;
    const rows = [...row.parentElement.rows];
    const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    const [down, right] = steps[key] ?? [];
    let [y, x] = [rows.indexOf(row), cell.cellIndex];
    while (down !== undefined) {
      [y, x] = [y + down, x + right];
      const target = rows[y]?.cells[x];
      if (!target || target.hasAttribute("tabindex")) return target;
    }
    return undefined;
  }

  view?.addEventListener("click", (event) => {
    const cell = event.target.closest("[data-use][tabindex]");
    if (cell) choose(cell);
  });
  view?.addEventListener("keydown", (event) => {
    const cell = event.target.closest("[data-use][tabindex]");
    if (!cell) return;
    const target = cell.matches("td") ? moveFrom(cell, event.key) : undefined;
    if (!target && event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    if (!target) choose(cell);
    else {
      cell.setAttribute("tabindex", "-1");
      target.setAttribute("tabindex", "0");
      target.focus();
    }
  });

  // "Use it": the chosen backend, or the best one.
  function showUse() {
    const backend = chosen.backend || document.querySelector("#matrix tbody tr")?.dataset.backend;
    if (!backend) return;
    for (const code of all("code[data-snippet]")) {
      code.textContent = code.dataset.snippet.replaceAll("BACKEND", () => JSON.stringify(backend));
    }
    all(".about").forEach((each) => (each.hidden = each.dataset.backend !== backend));
  }

  const copy = document.getElementById("copy");
  copy?.addEventListener("click", async () => {
    const code = document.querySelector(".snippet:not([hidden]) code");
    const copied = document.getElementById("copied");
    try {
      await navigator.clipboard.writeText(code.textContent);
      copied.textContent = "Copied.";
    } catch {
      getSelection().selectAllChildren(code);
      copied.textContent = "Selected; press Ctrl+C.";
    }
  });

  controls.forEach((control) => control.addEventListener("input", () => {
    writeFragment();
    if (control.options) showState();
    else weigh();
  }));

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
  all("#controls, #copy, .downloads").forEach((each) => each.removeAttribute("hidden"));

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
      watchScrolling();
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

  if (view) {
    if (matchMedia("(max-width: 700px)").matches) document.getElementById("controls").open = false;
    prepareCells();
    addEventListener("hashchange", readFragment);
    if (location.hash.includes("=")) readFragment();
  }
})();
