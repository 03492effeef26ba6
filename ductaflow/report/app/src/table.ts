// The table of all instances. Tabulator draws, sorts and exports it; which rows pass is `filters`'.

import {
  AccessorModule,
  ColumnDefinition,
  DownloadModule,
  ExportModule,
  FilterModule,
  FormatModule,
  FrozenColumnsModule,
  InteractionModule,
  MoveColumnsModule,
  ResizeColumnsModule,
  ResizeTableModule,
  SortModule,
  Tabulator,
} from "tabulator-tables";
import { Field, Row, Value, bytes, href, lights, number, report, rows, seconds, show, when } from "./data";
import { el, later } from "./dom";
import { instanceField } from "./filters";
import { SCROLL } from "./live";
import { get, list, set } from "./state";

Tabulator.registerModule([
  AccessorModule,
  DownloadModule,
  ExportModule,
  FilterModule,
  FormatModule,
  FrozenColumnsModule,
  InteractionModule,
  MoveColumnsModule,
  ResizeColumnsModule,
  ResizeTableModule,
  SortModule,
]);

/** A row as Tabulator holds it: a flat value for each column. */
interface Line {
  row: Row;
  id: string;
  [key: string]: unknown;
}

interface Hooks {
  open(row: Row): void;
  select(row: Row, on: boolean): void;
}

export function lightOf(row: Row): HTMLElement {
  const light = lights.get(row.light)!;
  const progress = row.attempt.cells ? ` ${row.attempt.cell ?? 0}/${row.attempt.cells}` : "";
  let label = light.label;
  if (row.light === "error" && row.status !== "failed") label = row.status;
  if (row.light === "warnings") label = row.warnings === 1 ? "1 warning" : `${row.warnings} warnings`;
  return el(
    "span",
    { class: `light ${row.light}`, title: why(row) },
    el("span", { class: "symbol", "aria-hidden": "true" }, light.symbol),
    `${label}${progress}`,
  );
}

export function why(row: Row): string {
  return [row.error, ...row.stale, ...row.notes, row.attempt.line ?? ""].filter(Boolean).join("\n");
}

export class Table {
  private table: Tabulator;
  private built = false;
  private visible: Set<Row> | null = null;
  private ticked = new Set(list("sel"));
  private inputs = new Map<string, HTMLInputElement>();

  constructor(
    element: HTMLElement,
    private fields: Field[],
    private hooks: Hooks,
  ) {
    const [column, direction] = get("sort").split("~");
    this.table = new Tabulator(element, {
      data: rows.map((row) => this.line(row)),
      index: "id",
      height: "100%",
      layout: "fitData",
      columns: this.columns(),
      nestedFieldSeparator: false,
      movableColumns: true,
      columnHeaderSortMulti: true,
      rowHeight: 34,
      placeholder: el("p", { class: "empty" }, "No instance passes the filters.") as never,
      initialSort: column
        ? [{ column, dir: direction === "desc" ? "desc" : "asc" }]
        : [],
    });
    this.table.on("tableBuilt", () => {
      this.built = true;
      // What scrolls can have the focus, so it must be a part of the grid for screen readers too.
      element.querySelector(".tabulator-tableholder")!.setAttribute("role", "rowgroup");
      element.querySelector(".tabulator-table")!.setAttribute("role", "presentation");
      element.removeAttribute("aria-owns");
      element.setAttribute("aria-label", "instances");
      if (this.visible) this.refresh();
      const [top, left] = (sessionStorage.getItem(SCROLL) ?? "").split(",").map(Number);
      sessionStorage.removeItem(SCROLL);
      const holder = element.querySelector(".tabulator-tableholder")!;
      if (top || left) window.setTimeout(() => holder.scrollTo(left, top), 0);
    });
    this.table.on("dataSorted", (sorters) => {
      if (!this.built) return;
      const first = sorters[0];
      set({ sort: first ? `${first.field}~${first.dir}` : null }, true);
    });
  }

  show(visible: Row[]): void {
    this.visible = visible.length === rows.length ? null : new Set(visible);
    if (this.built) this.refresh();
  }

  private refresh(): void {
    const visible = this.visible;
    if (visible) this.table.setFilter((line: Line) => visible.has(line.row));
    else this.table.clearFilter(false);
  }

  /** Rows have changed or come: where one looks stays in its place. */
  async update(changed: Row[], fields: Field[]): Promise<void> {
    if (!this.built) return;
    const holder = this.table.element.querySelector<HTMLElement>(".tabulator-tableholder")!;
    const { scrollTop, scrollLeft } = holder;
    const before = new Set(this.fields.map((field) => field.key));
    this.fields = fields;
    if (fields.some((field) => !before.has(field.key))) this.table.setColumns(this.columns());
    await this.table.updateOrAddData(changed.map((row) => this.line(row)) as never);
    for (const row of changed) {
      const component = this.table.getRow(row.id);
      if (component) component.reformat();
    }
    this.table.refreshFilter();
    holder.scrollTop = scrollTop;
    holder.scrollLeft = scrollLeft;
  }

  tick(ids: string[]): void {
    this.ticked = new Set(ids);
    for (const box of this.table.element.querySelectorAll<HTMLInputElement>("input[data-row]")) {
      box.checked = this.ticked.has(box.dataset.row!);
    }
  }

  /** Show the filters as the address has them. */
  filters(): void {
    for (const [key, input] of this.inputs) {
      const value = get(`f.${key}`);
      if (input.value !== value && document.activeElement !== input) input.value = value;
    }
  }

  toggle(key: string, on: boolean): void {
    if (on) this.table.showColumn(key);
    else this.table.hideColumn(key);
    this.table.redraw();
  }

  csv(name: string): void {
    this.table.download("csv", name, { bom: true });
  }

  redraw(): void {
    if (this.built) this.table.redraw(true);
  }

  private line(row: Row): Line {
    const line: Line = { row, id: row.id, light: row.light, instance: row.instance, error: row.error };
    for (const field of this.fields) line[field.key] = field.get(row);
    return line;
  }

  private columns(): ColumnDefinition[] {
    const wide = window.innerWidth > 760;
    const hidden = hiddenFields(this.fields);
    const of = (field: Field) => ({
      ...this.column(field),
      visible: !hidden.has(field.key),
    });
    const [step, ...others] = this.fields.map(of);
    return [
      {
        field: "tick",
        title: "",
        width: 36,
        headerSort: false,
        resizable: false,
        download: false,
        frozen: wide,
        formatter: (cell) => this.box((cell.getData() as Line).row),
        titleFormatter: () => el("span", { class: "visually-hidden" }, "compare"),
      },
      {
        ...this.column(
          { ...instanceField, key: "light", name: "status", get: (row) => row.light },
          false,
        ),
        width: wide ? 138 : 124,
        frozen: wide,
        formatter: (cell) => lightOf((cell.getData() as Line).row),
        sorter: (_a, _b, first, second) =>
          order((first.getData() as Line).row.light) - order((second.getData() as Line).row.light),
      },
      step,
      {
        ...this.column(instanceField),
        frozen: wide,
        minWidth: 130,
        formatter: (cell) => this.name((cell.getData() as Line).row),
      },
      ...others,
      this.column({ ...instanceField, key: "error", name: "error", get: (row) => row.error }),
    ];
  }

  private column(field: Field, filtered = true): ColumnDefinition {
    const align = field.numeric ? "right" : "left";
    return {
      field: field.key,
      title: field.name,
      titleDownload: String(safe(field.name)),
      hozAlign: align,
      headerHozAlign: "left",
      minWidth: 70,
      width: width(field),
      resizable: "header",
      headerWordWrap: false,
      sorter: (a: Value, b: Value, _ra, _rb, _column, dir) => compare(a, b, dir),
      accessorDownload: (value: Value) => plainly(field, value),
      formatter: (cell) => formatted(field, cell.getValue() as Value),
      titleFormatter: (_cell) => this.head(field, filtered),
    };
  }

  private head(field: Field, filtered: boolean): HTMLElement {
    const title = el("button", { class: "head", type: "button", title: field.name }, field.name);
    if (!filtered) return el("div", { class: "headbox" }, title);
    const hold = (event: Event) => event.stopPropagation();
    const input = el("input", {
      type: "search",
      size: 1,
      class: "headfilter",
      "aria-label": `filter ${field.name}`,
      placeholder: field.numeric ? "> 5, 1..3" : "filter",
      value: get(`f.${field.key}`),
      onclick: hold,
      onmousedown: hold,
      onkeydown: hold,
    });
    input.addEventListener(
      "input",
      later(60, () => set({ [`f.${field.key}`]: input.value.trim() || null })),
    );
    this.inputs.set(field.key, input);
    return el("div", { class: "headbox" }, title, input);
  }

  private box(row: Row): HTMLElement {
    return el("input", {
      type: "checkbox",
      "data-row": row.id,
      "aria-label": `compare ${row.id}`,
      checked: this.ticked.has(row.id),
      onclick: (event: Event) => event.stopPropagation(),
      onchange: (event: Event) =>
        this.hooks.select(row, (event.target as HTMLInputElement).checked),
    });
  }

  private name(row: Row): HTMLElement {
    return el(
      "span",
      { class: "name" },
      el(
        "button",
        {
          class: "open",
          type: "button",
          title: `details of ${row.id}`,
          onclick: () => this.hooks.open(row),
        },
        row.instance,
      ),
      el(
        "a",
        { href: href(report(row)), class: "go", "aria-label": `report of ${row.id}`, title: "report" },
        "↗",
      ),
    );
  }
}

/** The columns that are not shown: at first those that are the same for all. */
export function hiddenFields(fields: Field[]): Set<string> {
  const asked = get("hide", "?");
  if (asked !== "?") return new Set(asked === "-" ? [] : list("hide"));
  return new Set(
    fields
      .filter(
        (field) =>
          (!field.varies && field.key !== "duration" && field.key !== "step") ||
          field.key === "warnings" ||
          (field.key === "step" && !field.varies),
      )
      .map((field) => field.key),
  );
}

function formatted(field: Field, value: Value): HTMLElement {
  let text = show(value);
  if (typeof value === "number") {
    if (field.key === "duration") text = seconds(value);
    else if (field.key === "memory") text = bytes(value * 2 ** 20);
    else if (field.key === "began") text = when(value);
    else text = number(value);
  }
  return el("span", {}, text.length > 200 ? `${text.slice(0, 200)}…` : text);
}

/** As wide as most of its values: measuring them all in the page would take its time. */
function width(field: Field): number {
  const step = Math.max(1, Math.floor(rows.length / 300));
  let longest = 0;
  for (let n = 0; n < rows.length; n += step) {
    longest = Math.max(longest, formatted(field, field.get(rows[n])).textContent!.length);
  }
  const more = field.key === "instance" ? 34 : 0;
  const most = field.key === "instance" ? 340 : field.key === "error" ? 420 : 240;
  return Math.round(Math.min(most, Math.max(88, field.name.length * 8.2 + 36, longest * 8 + 22 + more)));
}

function order(light: string): number {
  return ["error", "running", "stale", "warnings", "success", "planned"].indexOf(light);
}

/** Numbers before text, nothing last, whichever way it is sorted. */
export function compare(a: Value, b: Value, dir: string): number {
  const last = dir === "desc" ? -1 : 1;
  if (a === null || b === null || a === undefined || b === undefined) {
    return (a == null ? 1 : 0) * last - (b == null ? 1 : 0) * last;
  }
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a === "number" || typeof b === "number") return typeof a === "number" ? -1 : 1;
  return collator.compare(String(a), String(b));
}

const collator = new Intl.Collator(undefined, { numeric: true });

/** A value as a file of values has it. */
function plainly(field: Field, value: Value): Value {
  return field.key === "began" && typeof value === "number" ? when(value) : safe(value);
}

/** Text that a spreadsheet does not take for a formula; what it takes for a number stays one. */
export function safe(value: Value): Value {
  return typeof value === "string" && FORMULA.test(value) && !NUMBER.test(value) ? `'${value}` : value;
}

// Spreadsheets pass over blanks, and take the wide signs of East Asian keyboards, too.
const FORMULA = /^(?:[\t\r\n]|\s*[=+\-@\uff1d\uff0b\uff0d\uff20])/;
const NUMBER = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i;

/** The rows as a plain table: what a printer gets, for which only some rows would be drawn. */
export function plain(shown: Row[], fields: Field[]): HTMLElement {
  const hidden = hiddenFields(fields);
  const columns = fields.filter((field) => !hidden.has(field.key));
  return el(
    "table",
    { class: "side printed" },
    el("thead", {}, el("tr", {}, ...["status", "instance", ...columns.map((f) => f.name)].map((name) => el("th", {}, name)))),
    el(
      "tbody",
      {},
      ...shown.slice(0, 2000).map((row) =>
        el("tr", {}, el("td", {}, lightOf(row)), el("td", {}, row.instance), ...columns.map((field) => el("td", {}, formatted(field, field.get(row))))),
      ),
    ),
  );
}

/** The rows as tab-separated text, for the clipboard. */
export function tsv(shown: Row[], fields: Field[]): string {
  const line = (values: Value[]) =>
    values.map((value) => String(safe(value) ?? "").replace(/[\t\r\n]+/g, " ")).join("\t");
  const columns = fields.filter((field) => field.key !== "step");
  return [
    line(["status", "step", "instance", ...columns.map((field) => field.name)]),
    ...shown.map((row) =>
      line([row.light, row.step, row.instance, ...columns.map((field) => plainly(field, field.get(row)))]),
    ),
  ].join("\n");
}

