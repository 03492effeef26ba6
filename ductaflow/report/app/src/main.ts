// The page: a bar with what counts, and one of six views of the rows that pass the filters.

import "tabulator-tables/dist/css/tabulator_simple.css";
import "./style.css";
import { charts, points, resizeChart } from "./charts";
import { compare } from "./compare";
import { Field, Row, data, fields as everyField, rows } from "./data";
import { openPanel } from "./details";
import { el, fill, later } from "./dom";
import { copyButton, failures } from "./failures";
import { selected, shown } from "./filters";
import { gallery } from "./gallery";
import { lineage } from "./lineage";
import { follow } from "./live";
import { get, list, listen, set } from "./state";
import { Table, hiddenFields, plain, tsv } from "./table";

const VIEWS = ["table", "gallery", "charts", "failures", "lineage", "compare"] as const;
type View = (typeof VIEWS)[number];

let fields: Field[] = everyField();
let visible: Row[] = shown(fields);

// --- the bar -------------------------------------------------------------------------------------

const app = document.getElementById("app")!;
const views = new Map<View, HTMLElement>();
const tabs = new Map<View, HTMLButtonElement>();
const chips = el("div", { class: "chips", role: "group", "aria-label": "filter by status" });
const meter = el("div", { class: "meter", role: "img" });
const found = el("output", { class: "found", "aria-live": "polite" });
const badge = el("span", { class: "live", hidden: true });
const columns = el("details", { class: "menu" });
const search = el("input", {
  type: "search", class: "search", placeholder: "Search", "aria-label": "search all instances", value: get("q"),
});
search.addEventListener("input", later(60, () => set({ q: search.value.trim() || null })));
const clear = el("button", { type: "button", class: "tool", onclick: forget }, "clear filters");
const csv = el("button", { type: "button", class: "tool", onclick: () => table.csv(`${data.title}.csv`) }, "CSV");
const copied = copyButton(() => tsv(visible, fields), "copy");
copied.classList.add("tool");

function bar(): void {
  const list = el("div", { class: "tabs", role: "tablist", "aria-label": "views" });
  for (const view of VIEWS) {
    const tab = el(
      "button",
      {
        type: "button", role: "tab", id: `tab-${view}`, "aria-controls": `view-${view}`,
        onclick: () => set({ view: view === "table" ? null : view }),
      },
      view,
    );
    tabs.set(view, tab);
    list.append(tab);
  }
  list.addEventListener("keydown", (event) => {
    const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (!step) return;
    const next = VIEWS[(VIEWS.indexOf(current()) + step + VIEWS.length) % VIEWS.length];
    set({ view: next === "table" ? null : next });
    tabs.get(next)!.focus();
  });
  const theme = el("button", { type: "button", class: "tool", "aria-label": "light or dark", title: "light or dark", onclick: turn }, "◐");
  fill(
    app,
    el(
      "header",
      { class: "top" },
      el(
        "div",
        { class: "brand" },
        data.logo ? el("img", { class: "logo", src: data.logo, alt: "" }) : null,
        el("h1", {}, data.title),
        badge,
        el("span", { class: "generated" }, new Date(data.generated).toLocaleString()),
        theme,
      ),
      meter,
      el("div", { class: "filters" }, chips, search, found, clear, el("span", { class: "grow" }), columns, copied, csv),
      list,
    ),
    el("main", {}, ...VIEWS.map((view) => {
      const section = el("section", { class: `view ${view}`, id: `view-${view}`, role: "tabpanel", "aria-labelledby": `tab-${view}`, hidden: true });
      views.set(view, section);
      return section;
    })),
  );
}

function counts(): void {
  const wanted = new Set(list("light"));
  fill(
    chips,
    ...data.lights
      .map((light) => ({ ...light, count: rows.filter((row) => row.light === light.value).length }))
      .filter((light) => light.count || wanted.has(light.value))
      .map((light) =>
        el(
          "button",
          {
            type: "button", class: `chip light ${light.value}`, "aria-pressed": String(wanted.has(light.value)),
            onclick: () => {
              if (wanted.has(light.value)) wanted.delete(light.value);
              else wanted.add(light.value);
              set({ light: [...wanted] });
            },
          },
          el("span", { class: "symbol", "aria-hidden": "true" }, light.symbol),
          el("b", {}, String(light.count)),
          ` ${light.label}`,
        ),
      ),
  );
  const parts = data.lights.map((light) => ({ ...light, count: rows.filter((row) => row.light === light.value).length })).filter((light) => light.count);
  fill(meter, ...parts.map((light) => el("span", { class: light.value, style: `flex-grow: ${light.count}` })));
  meter.setAttribute("aria-label", parts.map((light) => `${light.count} ${light.label}`).join(", "));
  const failed = rows.filter((row) => row.light === "error").length;
  tabs.get("failures")!.textContent = failed ? `failures (${failed})` : "failures";
  const chosen = selected().length;
  tabs.get("compare")!.textContent = chosen ? `compare (${chosen})` : "compare";
}

function chooser(): void {
  const hidden = hiddenFields(fields);
  const box = (field: Field) =>
    el(
      "label",
      { class: "check" },
      el("input", {
        type: "checkbox",
        checked: !hidden.has(field.key),
        onchange: (event: Event) => {
          const on = (event.target as HTMLInputElement).checked;
          const now = hiddenFields(fields);
          if (on) now.delete(field.key);
          else now.add(field.key);
          set({ hide: now.size ? [...now] : "-" }, true);
          table.toggle(field.key, on);
        },
      }),
      ` ${field.name}`,
    );
  fill(
    columns,
    el("summary", { class: "tool" }, "columns"),
    el(
      "div",
      { class: "choices" },
      ...(["config", "metrics", "run"] as const).flatMap((group) => {
        const some = fields.filter((field) => field.group === group);
        return some.length ? [el("fieldset", {}, el("legend", {}, group), ...some.map(box))] : [];
      }),
    ),
  );
}

function forget(): void {
  search.value = "";
  const none: Record<string, null> = { q: null, light: null };
  for (const key of [...new URLSearchParams(location.hash.slice(1)).keys()]) {
    if (key.startsWith("f.")) none[key] = null;
  }
  set(none);
}

// --- light and dark ------------------------------------------------------------------------------

const dark = window.matchMedia("(prefers-color-scheme: dark)");

function paint(): void {
  let asked = "";
  try {
    asked = localStorage.getItem("ductaflow-theme") ?? "";
  } catch {
    asked = ""; // a page from disk may have no store
  }
  document.documentElement.dataset.theme = asked || (dark.matches ? "dark" : "light");
}

function turn(): void {
  const now = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = now;
  try {
    localStorage.setItem("ductaflow-theme", now);
  } catch {
    // it holds until the page is left
  }
  draw();
}

dark.addEventListener("change", () => {
  paint();
  draw();
});

// --- what is drawn -------------------------------------------------------------------------------

function current(): View {
  const asked = get("view", "table") as View;
  return VIEWS.includes(asked) ? asked : "table";
}

function draw(): void {
  const view = current();
  const section = views.get(view)!;
  if (view === "gallery") gallery(section, visible, fields, openPanel);
  else if (view === "charts") charts(section, visible, fields, openPanel);
  else if (view === "failures") failures(section, visible, openPanel);
  else if (view === "lineage") lineage(section, visible, openPanel);
  else if (view === "compare") compare(section, visible);
}

function look(): void {
  const view = current();
  for (const [name, section] of views) section.hidden = name !== view;
  for (const [name, tab] of tabs) {
    tab.setAttribute("aria-selected", String(name === view));
    tab.tabIndex = name === view ? 0 : -1;
  }
  for (const tool of [columns, copied, csv]) tool.hidden = view !== "table";
  draw();
  if (view === "table") table.redraw();
}

function filter(): void {
  visible = shown(fields);
  const some = visible.length !== rows.length;
  found.textContent = some ? `${visible.length} of ${rows.length}` : `${rows.length} instances`;
  clear.hidden = !(get("q") || list("light").length || [...new URLSearchParams(location.hash.slice(1)).keys()].some((key) => key.startsWith("f.")));
}

paint();
bar();
counts();
chooser();
filter();
const table = new Table(views.get("table")!.appendChild(el("div", { class: "grid" })), fields, {
  open: openPanel,
  select: (row, on) => {
    const now = list("sel").filter((id) => id !== row.id);
    set({ sel: on ? [...now, row.id] : now });
  },
});
table.show(visible);
look();

const redrawSoon = later(400, draw);
listen((changed) => {
  const narrowed = [...changed].some((key) => key === "q" || key === "light" || key.startsWith("f."));
  if (narrowed) {
    filter();
    table.show(visible);
    table.filters();
    if (document.activeElement !== search) search.value = get("q");
  }
  if (changed.has("light") || changed.has("sel")) counts();
  if (changed.has("sel")) table.tick(list("sel"));
  if (changed.has("view")) look();
  else if (current() !== "table") draw();
});
window.addEventListener("beforeprint", () => views.get("table")!.append(plain(visible, fields)));
window.addEventListener("afterprint", () => views.get("table")!.querySelector(".printed")?.remove());
window.addEventListener("resize", () => resizeChart());
document.addEventListener("click", (event) => {
  if (columns.open && !columns.contains(event.target as Node)) columns.open = false;
});
document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName ?? "");
  if (event.key === "/" && !typing) {
    event.preventDefault();
    search.focus();
  }
});

follow({
  changed(news, added) {
    const before = fields.length;
    if (added || news.some((row) => Object.keys(row.metrics).length)) fields = everyField();
    if (fields.length !== before) chooser();
    counts();
    filter();
    table.show(visible);
    void table.update(news, fields);
    if (current() !== "table") redrawSoon();
  },
  said(state, line) {
    badge.hidden = false;
    badge.className = `live ${state}`;
    badge.textContent = state === "over" ? "finished" : state === "lost" ? "no sign of life" : "live";
    badge.title = line;
  },
});

Object.assign(window, { ductaflow: { points, rows, visible: () => visible } });
