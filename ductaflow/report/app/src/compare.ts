// Two or more instances side by side: configs, metrics, and their notebooks' outputs, cell by cell.

import { diffArrays, diffWordsWithSpace } from "diff";
import { Row, Value, byId, href, number, report, show } from "./data";
import { Cell, Details, Output, details } from "./details";
import { el, fill } from "./dom";
import { list, set, get } from "./state";
import { lightOf } from "./table";

const LONGEST = 20_000; // characters of a text whose differences are marked

let drawing = 0;

export function compare(element: HTMLElement, shown: Row[]): void {
  const mine = ++drawing;
  const chosen = list("sel").flatMap((id) => byId.get(id) ?? []);
  const all = get("same") === "1";
  const body = el("div", { class: "compared" });
  fill(
    element,
    el(
      "div",
      { class: "controls" },
      picker(shown, chosen),
      el(
        "label",
        { class: "check" },
        el("input", {
          type: "checkbox",
          checked: all,
          onchange: (event: Event) => set({ same: (event.target as HTMLInputElement).checked ? "1" : null }),
        }),
        " show also what is the same",
      ),
    ),
    el(
      "p",
      { class: "names" },
      ...chosen.map((row, n) =>
        el(
          "span",
          { class: "picked" },
          n ? el("span", { class: "hint" }, n === 1 ? "compared with " : "and ") : null,
          el(
            "button",
            { type: "button", class: "chip", "aria-label": `remove ${row.id}`, onclick: () => set({ sel: chosen.filter((one) => one !== row).map((one) => one.id) }) },
            `${row.id} ×`,
          ),
        ),
      ),
    ),
    body,
  );
  if (chosen.length < 2) {
    body.append(el("p", { class: "empty" }, "Choose two or more instances: here, or by the boxes in the table."));
    return;
  }
  values(body, "Config", chosen, (row) => row.config, all);
  values(body, "Metrics", chosen, (row) => row.metrics, all);
  void Promise.all(chosen.map(details)).then((found) => {
    if (mine !== drawing) return;
    notebooks(body, chosen, found, all);
  });
}

function picker(shown: Row[], chosen: Row[]): HTMLElement {
  const names = el("datalist", { id: "instances" });
  for (const row of shown.slice(0, 2000)) {
    if (!chosen.includes(row)) names.append(el("option", { value: row.id }));
  }
  const input = el("input", { type: "search", list: "instances", placeholder: "step/instance" });
  input.addEventListener("change", () => {
    const row = byId.get(input.value);
    if (row && !chosen.includes(row)) set({ sel: [...chosen, row].map((one) => one.id) });
  });
  return el("label", { class: "choice" }, el("span", {}, "Add"), input, names);
}

function values(
  body: HTMLElement,
  title: string,
  chosen: Row[],
  of: (row: Row) => Record<string, Value>,
  all: boolean,
): void {
  const names = [...new Set(chosen.flatMap((row) => Object.keys(of(row))))];
  const differs = (name: string) => new Set(chosen.map((row) => JSON.stringify(of(row)[name] ?? null))).size > 1;
  const kept = names.filter((name) => all || differs(name));
  body.append(el("h2", {}, title));
  if (!names.length) {
    body.append(el("p", { class: "hint" }, "none"));
    return;
  }
  if (!kept.length) {
    body.append(el("p", { class: "hint" }, `all ${names.length} the same`));
    return;
  }
  const base = of(chosen[0]);
  body.append(
    el(
      "div",
      { class: "wide", tabindex: "0", role: "region", "aria-label": title },
      el(
        "table",
        { class: "side" },
        el(
          "thead",
          {},
          el("tr", {}, el("th", { scope: "col" }, title.toLowerCase()), ...chosen.map((row) => el("th", { scope: "col" }, row.id))),
        ),
        el(
          "tbody",
          {},
          ...kept.map((name) =>
            el(
              "tr",
              { class: differs(name) ? "differs" : "" },
              el("th", { scope: "row" }, name),
              ...chosen.map((row, n) => {
                const value = of(row)[name];
                const from = base[name];
                const change = n && typeof value === "number" && typeof from === "number" && value !== from ? value - from : null;
                return el(
                  "td",
                  {},
                  value === undefined ? el("em", {}, "none") : show(value),
                  change === null ? null : el("small", { class: "change" }, ` ${change > 0 ? "+" : "−"}${number(Math.abs(change))}`),
                );
              }),
            ),
          ),
        ),
      ),
    ),
  );
}

// --- notebooks -----------------------------------------------------------------------------------

function notebooks(body: HTMLElement, chosen: Row[], found: (Details | null)[], all: boolean): void {
  body.append(el("h2", {}, "Outputs"));
  const columns = `grid-template-columns: repeat(${chosen.length}, minmax(280px, 1fr))`;
  const grid = el("div", { class: "wide outputs", tabindex: "0", role: "region", "aria-label": "outputs side by side" });
  body.append(grid);
  grid.append(
    el(
      "div",
      { class: "line heads", style: columns },
      ...chosen.map((row) => el("div", {}, lightOf(row), " ", el("a", { href: href(report(row)) }, row.id))),
    ),
  );
  if (found.some((one) => !one)) {
    // Nothing was kept of one of them: their reports, next to each other.
    grid.append(
      el(
        "div",
        { class: "line", style: columns },
        ...chosen.map((row) => el("iframe", { src: href(report(row)), title: `report of ${row.id}`, sandbox: "" })),
      ),
    );
    return;
  }
  let same = 0;
  for (const cells of aligned(found.map((one) => one!.cells.filter((cell) => !cell.own)))) {
    const differs = new Set(cells.map((cell) => JSON.stringify(cell?.outputs.map(content) ?? null))).size > 1;
    const edited = new Set(cells.map((cell) => cell?.source ?? null)).size > 1;
    const some = cells.some((cell) => cell?.outputs.length);
    if (!differs && !edited) same += some ? 1 : 0;
    if (!(differs || edited || (all && some))) continue;
    const first = cells.find(Boolean)!;
    const base = cells[0];
    grid.append(
      el(
        "details",
        { class: "source", open: edited },
        el("summary", {}, `cell ${first.n}`, edited ? " (code differs)" : "", el("code", {}, firstLine(first.source))),
        el(
          "div",
          { class: "line", style: columns },
          ...(edited ? cells : [first]).map((cell, n) =>
            el("pre", { tabindex: "0" }, ...(cell ? marked(cell.source, n ? base?.source : undefined) : ["not there"])),
          ),
        ),
      ),
      el(
        "div",
        { class: `line cell${differs ? " differs" : ""}`, style: columns },
        ...cells.map((cell, n) =>
          el("div", {}, ...(cell ? cell.outputs.map((output, at) => drawn(output, n ? (base?.outputs[at] ?? null) : undefined)) : [el("em", { class: "hint" }, "not there")])),
        ),
      ),
    );
  }
  if (same && !all) grid.append(el("p", { class: "hint" }, `${same} more cells with the same output`));
}

function firstLine(source: string): string {
  const line = source.split("\n").find((one) => one.trim()) ?? "";
  return line.length > 90 ? `${line.slice(0, 90)}…` : line;
}

/** What is compared of an output; a figure's name is made of its content. */
function content(output: Output): string {
  return output.src ? (output.src.split("/").pop() ?? "").replace(/^\d+-/, "") : `${output.type}:${output.text}`;
}

/** Cells that belong together: those with the same source, in order, and what is between them. */
function aligned(notebooks: Cell[][]): (Cell | null)[][] {
  const [base, ...others] = notebooks;
  let lines: (Cell | null)[][] = base.map((cell) => [cell]);
  others.forEach((cells, k) => {
    const before = k + 1;
    const next: (Cell | null)[][] = [];
    const own = lines.map((line) => line.find(Boolean)!.source);
    let [i, j] = [0, 0];
    const parts = diffArrays(own, cells.map((cell) => cell.source));
    for (let p = 0; p < parts.length; p++) {
      const part = parts[p];
      const count = part.value.length;
      if (!part.added && !part.removed) {
        for (let n = 0; n < count; n++) next.push([...lines[i++], cells[j++]]);
        continue;
      }
      // What was removed and what was added in its place stand side by side.
      const twin = parts[p + 1];
      const paired = twin && (twin.added !== part.added) && (twin.added || twin.removed);
      const removed = part.removed ? count : paired ? twin.value.length : 0;
      const added = part.added ? count : paired ? twin.value.length : 0;
      for (let n = 0; n < Math.max(removed, added); n++) {
        const left = n < removed ? lines[i++] : new Array<Cell | null>(before).fill(null);
        next.push([...left, n < added ? cells[j++] : null]);
      }
      if (paired) p++;
    }
    lines = next;
  });
  return lines;
}

function drawn(output: Output, base: Output | null | undefined): HTMLElement {
  const other = base === null || (base !== undefined && content(base) !== content(output));
  if (output.src) {
    return el(
      "figure",
      { class: other ? "differs" : "" },
      el("a", { href: href(output.src) }, el("img", { src: href(output.src), alt: other ? "figure, differs" : "figure", loading: "lazy" })),
      other ? el("figcaption", {}, "differs") : null,
    );
  }
  const before = base && base.text !== undefined ? base.text : undefined;
  return el("pre", { class: output.type === "error" || output.type === "stderr" ? output.type : "", tabindex: "0" },
    ...marked(output.text ?? "", other ? (before ?? "") : undefined));
}

/** A text, with what differs from another marked. */
function marked(text: string, base: string | undefined): (Node | string)[] {
  if (base === undefined || base === text) return [text];
  if (text.length + base.length > 2 * LONGEST) return [el("ins", {}, text)];
  return diffWordsWithSpace(base, text).map((part) =>
    part.added ? el("ins", {}, part.value) : part.removed ? el("del", {}, part.value) : part.value,
  );
}

