// Filters and the token view. Without it the pages show everything but the tokens.
"use strict";
const all = (query, at = document) => [...at.querySelectorAll(query)];
const has = (text, words) => words.toLowerCase().split(/\s+/).every((word) => text.toLowerCase().includes(word));
const ready = (form, change) => {
  if (!form) return;
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", change);
  form.addEventListener("reset", () => setTimeout(change));
  change();
};

// overview: rows by words, axes and verdicts
const find = document.getElementById("find");
ready(find, () => {
  const wanted = new FormData(find), verdicts = wanted.getAll("verdict"), rows = all(".matrix tbody tr");
  const axes = all("select", find).filter((select) => select.value);
  for (const row of rows) {
    const here = row.dataset.verdicts.split(" ");
    row.hidden = !(
      has(row.textContent + row.dataset.words, wanted.get("words")) &&
      axes.every((select) => row.dataset[select.name] === select.value) &&
      (!verdicts.length || verdicts.some((verdict) => here.includes(verdict)))
    );
  }
  find.querySelector("output").value = `${rows.filter((row) => !row.hidden).length} of ${rows.length} papers`;
});

// a paper: models by words, and one by one
const models = document.getElementById("models");
if (models) {
  const chips = all(".chip", models);
  const show = () => {
    const off = new Set(chips.filter((chip) => chip.getAttribute("aria-pressed") === "false").map((chip) => chip.value));
    for (const part of all("[data-v]")) part.classList.toggle("off", off.has(part.dataset.v));
    models.querySelector("output").value = `${chips.length - off.size} of ${chips.length} shown`;
  };
  const press = (chip, on) => chip.setAttribute("aria-pressed", String(on));
  for (const chip of chips)
    chip.addEventListener("click", () => {
      press(chip, chip.getAttribute("aria-pressed") === "false");
      show();
    });
  ready(models, () => {
    for (const chip of chips) press(chip, has(chip.dataset.words, models.elements.words.value));
    show();
  });
}

// a line of a legend that is pressed stays brought out
for (const button of all(".legend button"))
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") === "false";
    for (const other of all("button", button.parentElement)) other.setAttribute("aria-pressed", String(on && other === button));
  });

// samples by what became of their prompt
const changes = document.getElementById("changes");
ready(changes, () => {
  const change = changes.elements.change.value;
  for (const sample of all(".sample")) sample.hidden = change !== "" && sample.dataset.change !== change;
});

// what a link points at is shown, also in what is folded
const unfold = () => document.getElementById(decodeURIComponent(location.hash.slice(1)))?.closest("details")?.setAttribute("open", "");
addEventListener("hashchange", unfold);
unfold();
addEventListener("beforeprint", () => all("details").forEach((part) => (part.open = true)));
addEventListener("keydown", (event) => {
  const field = document.querySelector("input[type=search]");
  if (event.key !== "/" || !field || /INPUT|SELECT|TEXTAREA/.test(document.activeElement.tagName)) return;
  event.preventDefault();
  field.focus();
});

// tokens, coloured by a column
const source = document.getElementById("token-data");
if (source) {
  const { rows, captions } = JSON.parse(source.textContent), pick = document.getElementById("pick").elements;
  const place = document.getElementById("rows"), said = document.getElementById("token");
  const figure = (value) => (value == null ? "–" : String(+value.toPrecision(3)).replace("-", "−"));
  const label = (name) => captions[name]?.label ?? name;
  const element = (tag, text, attributes = {}) => {
    const made = document.createElement(tag);
    made.textContent = text;
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  // a column's colours: from one to the other where it has both signs, else by size; the largest of the rows in view has the full one
  const shades = (column, shown) => {
    const values = shown.flatMap((row) => row.columns[column] ?? []).filter((value) => value != null);
    const signed = values.some((value) => value < 0) && values.some((value) => value > 0);
    const sizes = values.map(Math.abs).sort((a, b) => a - b), most = sizes[Math.floor(0.98 * (sizes.length - 1))] || 1;
    const shade = (value) => {
      const share = Math.round(100 * Math.min(1, Math.abs(value) / most) ** 0.7);
      return `color-mix(in srgb, var(${value < 0 && signed ? "--less" : "--more"}) ${share}%, transparent)`;
    };
    return { shade, ends: signed ? [-most, 0, most] : [0, values.some((value) => value < 0) ? -most : most] };
  };
  const tell = (row, i) => {
    const parts = Object.entries(row.columns).map(([name, values]) => `${label(name)} ${figure(values[i])}`);
    said.textContent = `Token ${i + 1} of ${row.length} ${JSON.stringify(row.tokens[i])}: ${parts.join(", ")}`;
  };
  const draw = () => {
    const column = pick.column.value, shown = rows[pick.variant.value].filter((row) => row.step === +pick.step.value);
    const { shade, ends } = shades(column, shown);
    document.getElementById("meaning").textContent = captions[column]?.says ?? "";
    const scale = document.querySelector("#pick .scale");
    scale.replaceChildren(...ends.map((value) => element("span", figure(value), { style: `background:${shade(value)}` })));
    place.replaceChildren(
      ...shown.map((row, r) => {
        const box = element("div", "", { class: "tokens", role: "listbox", tabindex: 0, "aria-label": `response ${r + 1} of ${shown.length}` });
        const heard = (at) => row.heard.filter(([where]) => where === at).map(([, text]) => element("span", text, { class: "heard", role: "presentation" }));
        row.tokens.forEach((text, i) => {
          const value = row.columns[column]?.[i], weight = row.columns.weight?.[i];
          const token = element("span", text, { role: "option", id: `token-${r}-${i}`, "aria-selected": false });
          token.setAttribute("aria-label", `${text} ${label(column)} ${figure(value)}${weight === 0 ? ", masked" : ""}`);
          if (value != null) token.style.background = shade(value);
          if (weight === 0) token.classList.add("masked");
          token.addEventListener("pointerenter", () => tell(row, i));
          box.append(...heard(i), token);
        });
        box.append(...heard(row.tokens.length));
        const options = all("[role=option]", box);
        const go = (to) => {
          const at = Math.max(0, Math.min(options.length - 1, to));
          options.forEach((option, i) => option.setAttribute("aria-selected", String(i === at)));
          box.setAttribute("aria-activedescendant", options[at].id);
          tell(row, at);
        };
        const now = () => options.findIndex((option) => option.getAttribute("aria-selected") === "true");
        box.addEventListener("keydown", (event) => {
          const to = { ArrowRight: now() + 1, ArrowLeft: now() - 1, Home: 0, End: options.length - 1 }[event.key];
          if (to === undefined || !options.length) return;
          event.preventDefault();
          go(to);
        });
        box.addEventListener("focus", () => options.length && now() < 0 && go(0));
        const line = element("div", "", { class: "response" });
        const cut = row.tokens.length < row.length ? `, the first ${row.tokens.length} of ${row.length} tokens` : "";
        line.append(element("code", row.prompt, { class: "prompt" }), box);
        line.append(element("small", `${row.reward == null ? "" : `reward ${figure(row.reward)}`}${cut}`));
        return line;
      }),
    );
    said.textContent = "";
  };
  const steps = () => {
    const found = [...new Set(rows[pick.variant.value].map((row) => row.step))], before = pick.step.value;
    pick.step.replaceChildren(...found.map((step) => element("option", String(step))));
    pick.step.value = found.includes(+before) ? before : String(found.at(-1));
  };
  pick.variant.addEventListener("input", steps);
  steps();
  ready(document.getElementById("pick"), draw);
}
