// What lies beside the page for one instance, loaded when it is asked for; and its panel.

import { Row, artifact, bytes, data, folder, href, seconds, show, when } from "./data";
import { el, fill } from "./dom";
import { lightbox } from "./gallery";
import { lightOf } from "./table";

export interface Output {
  type: string;
  text?: string;
  src?: string;
  thumb?: string;
}

export interface Cell {
  kind: string;
  source: string;
  n: number;
  own: boolean;
  outputs: Output[];
}

export interface Details {
  cells: Cell[];
  files: [string, number][];
  traceback: string[];
}

const waiting = new Map<string, (details: Details) => void>();
const known = new Map<string, Promise<Details | null>>();

declare global {
  interface Window {
    ductaflowDetails(id: string, details: Details): void;
    ductaflowStatus(status: never): void;
  }
}

window.ductaflowDetails = (id, details) => waiting.get(id)?.(details);

/** A page opened from disk may not fetch, but it may load a script. */
export function details(row: Row): Promise<Details | null> {
  if (!data.media) return Promise.resolve(null);
  const key = `${row.id}?${row.began ?? 0}`;
  let found = known.get(key);
  if (!found) {
    found = new Promise((resolve) => {
      waiting.set(row.id, resolve);
      const script = document.createElement("script");
      script.src = `${href(`${data.files}/instances/${row.id}.js`)}?${row.began ?? 0}`;
      script.onerror = () => resolve(null);
      script.onload = () => script.remove();
      document.head.append(script);
    });
    known.set(key, found);
  }
  return found;
}

export function links(row: Row): HTMLElement {
  const files = data.links.map((link) => ({ text: link.text, path: artifact(row, link) }));
  const gone = files.filter(({ path }) => path === "").map(({ text }) => text);
  return el(
    "nav",
    { class: "links", "aria-label": `files of ${row.id}` },
    ...files.map(({ text, path }) => (path ? el("a", { href: href(path) }, text) : null)),
    el("a", { href: `${href(folder(row))}/` }, "folder"),
    gone.length ? ` (thinned: no ${gone.join(", no ")})` : null,
  );
}

function pairs(title: string, values: Record<string, unknown>): HTMLElement | null {
  const entries = Object.entries(values);
  if (!entries.length) return null;
  return el(
    "section",
    {},
    el("h3", {}, title),
    el(
      "table",
      { class: "pairs" },
      el(
        "tbody",
        {},
        ...entries.map(([name, value]) =>
          el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, show(value as never))),
        ),
      ),
    ),
  );
}

const panel = el("dialog", { class: "panel", "aria-labelledby": "panel-title" });
let current: Row | null = null;

export function openPanel(row: Row): void {
  if (!panel.isConnected) {
    document.body.append(panel);
    panel.addEventListener("click", (event) => {
      if (event.target === panel) panel.close();
    });
  }
  current = row;
  const media = el("div", {});
  fill(
    panel,
    el(
      "div",
      { class: "inner" },
      el(
        "header",
        {},
        el("h2", { id: "panel-title" }, el("small", {}, `${row.step} / `), row.instance),
        el("button", { class: "close", type: "button", "aria-label": "close", onclick: () => panel.close() }, "×"),
      ),
      el(
        "p",
        { class: "facts" },
        lightOf(row),
        ` ${[seconds(row.duration), bytes(row.memory), when(row.began)].filter(Boolean).join(" · ")}`,
      ),
      links(row),
      row.error ? el("pre", { class: "error", tabindex: "0" }, row.error) : null,
      row.stale.length
        ? el("section", {}, el("h3", {}, "Stale because"), bullets(row.stale))
        : null,
      row.notes.length ? el("section", {}, el("h3", {}, "Notes"), bullets(row.notes)) : null,
      pairs("Metrics", row.metrics),
      media,
      pairs("Config", row.config),
    ),
  );
  if (!panel.open) panel.showModal();
  if (row.figures.length) {
    media.append(
      el("h3", {}, "Figures"),
      el(
        "div",
        { class: "strip" },
        ...row.figures.map((figure, n) =>
          el(
            "button",
            { type: "button", class: "thumb", onclick: () => lightbox([row], 0, n) },
            el("img", { src: href(figure.thumbnail), alt: `${row.id}: ${figure.label}`, loading: "lazy" }),
          ),
        ),
      ),
    );
  }
  void details(row).then((found) => {
    if (!found || current !== row) return;
    if (found.traceback.length) {
      media.append(
        el("h3", {}, "Traceback"),
        el("pre", { class: "error", tabindex: "0" }, found.traceback.slice(-40).join("\n")),
      );
    }
    if (found.files.length) {
      media.append(
        el("h3", {}, "Files"),
        el(
          "ul",
          { class: "files" },
          ...found.files.map(([name, size]) =>
            el("li", {}, el("a", { href: href(`${folder(row)}/${name}`) }, name), ` ${bytes(size)}`),
          ),
        ),
      );
    }
  });
}

function bullets(texts: string[]): HTMLElement {
  return el("ul", {}, ...texts.map((text) => el("li", {}, text)));
}
