// Figures, a card an instance, grouped by any value; a click enlarges.

import { Field, Row, href, report, show } from "./data";
import { choice, el, fill } from "./dom";
import { get, set } from "./state";
import { lightOf } from "./table";

const PAGE = 120; // cards that are drawn at once

export function gallery(
  element: HTMLElement,
  shown: Row[],
  fields: Field[],
  open: (row: Row) => void,
): void {
  const rows = shown.filter((row) => row.figures.length);
  const by = get("group");
  const size = get("size", "m");
  const values = fields.filter((field) => field.group === "config" && field.varies);
  const controls = el(
    "div",
    { class: "controls" },
    choice(
      "Group by",
      {
        "": [["", "nothing"], ["step", "step"]],
        config: values.map((field) => [field.key, field.name]),
      },
      by,
      (value) => set({ group: value || null }),
    ),
    choice(
      "Size",
      { "": [["s", "small"], ["m", "medium"], ["l", "large"]] },
      size,
      (value) => set({ size: value }),
    ),
    el("span", { class: "hint" }, `${rows.length} of ${shown.length} instances have figures`),
  );
  const field = fields.find((one) => one.key === by);
  const groups = new Map<string, Row[]>();
  for (const row of rows) {
    const name = field ? show(field.get(row)) : "";
    groups.set(name, [...(groups.get(name) ?? []), row]);
  }
  fill(element, controls, rows.length ? null : el("p", { class: "empty" }, "No figures here."));
  let room = PAGE;
  for (const [name, members] of [...groups].sort(([a], [b]) => collator.compare(a, b))) {
    const grid = el("div", { class: `cards ${size}` });
    if (field) element.append(el("h2", { class: "group" }, `${field.name}: ${name || "none"} `, el("small", {}, `${members.length}`)));
    element.append(grid);
    const more = (from: number, count: number) => {
      members.slice(from, from + count).forEach((row, n) => grid.append(card(row, members, from + n, open)));
      const left = members.length - from - count;
      if (left > 0) {
        const button = el("button", { type: "button", class: "more" }, `show ${Math.min(left, PAGE)} more of ${left}`);
        button.addEventListener("click", () => {
          button.remove();
          more(from + count, PAGE);
        });
        grid.after(button);
      }
    };
    const first = Math.max(4, Math.min(members.length, room));
    more(0, first);
    room = Math.max(0, room - first);
  }
}

const collator = new Intl.Collator(undefined, { numeric: true });

function card(row: Row, members: Row[], position: number, open: (row: Row) => void): HTMLElement {
  const [first, ...others] = row.figures;
  const image = (n: number) =>
    el(
      "button",
      { type: "button", class: "thumb", "aria-label": `enlarge ${row.id}, ${row.figures[n].label}`, onclick: () => lightbox(members, position, n) },
      el("img", { src: href(row.figures[n].thumbnail), alt: "", loading: "lazy", decoding: "async" }),
    );
  return el(
    "article",
    { class: "card" },
    first ? image(0) : null,
    others.length
      ? el("div", { class: "strip" }, ...others.slice(0, 4).map((_, n) => image(n + 1)))
      : null,
    el(
      "footer",
      {},
      lightOf(row),
      el("button", { type: "button", class: "open", onclick: () => open(row) }, row.instance),
      el("a", { class: "go", href: href(report(row)), "aria-label": `report of ${row.id}`, title: "report" }, "↗"),
    ),
  );
}

const box = el("dialog", { class: "lightbox", "aria-label": "figure" });

/** A figure at its full size; arrows lead to the next, and to the same of the next instance. */
export function lightbox(rows: Row[], at: number, figure: number): void {
  if (!box.isConnected) {
    document.body.append(box);
    box.addEventListener("click", (event) => {
      if (event.target === box) box.close();
    });
  }
  const row = rows[at];
  const shown = row.figures[figure];
  const step = (by: number) => {
    let next = at;
    do next = (next + by + rows.length) % rows.length;
    while (!rows[next].figures.length && next !== at);
    lightbox(rows, next, Math.min(figure, rows[next].figures.length - 1));
  };
  const turn = (by: number) =>
    lightbox(rows, at, (figure + by + row.figures.length) % row.figures.length);
  box.onkeydown = (event) => {
    if (event.key === "ArrowRight" || event.key === "ArrowLeft") step(event.key === "ArrowRight" ? 1 : -1);
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") turn(event.key === "ArrowDown" ? 1 : -1);
    else return;
    event.preventDefault();
  };
  const button = (text: string, label: string, action: () => void, wanted: boolean) =>
    wanted ? el("button", { type: "button", "aria-label": label, title: label, onclick: action }, text) : null;
  fill(
    box,
    el("img", { src: href(shown.image), alt: `${row.id}: ${shown.label}` }),
    el(
      "footer",
      {},
      button("←", "previous instance", () => step(-1), rows.length > 1),
      button("→", "next instance", () => step(1), rows.length > 1),
      button("↓", "next figure of this instance", () => turn(1), row.figures.length > 1),
      el("strong", {}, row.id),
      el("span", {}, `${shown.label}${row.figures.length > 1 ? `, ${figure + 1} of ${row.figures.length}` : ""}`),
      el("a", { href: href(report(row)) }, "report"),
      button("×", "close", () => box.close(), true),
    ),
  );
  if (!box.open) box.showModal();
}
