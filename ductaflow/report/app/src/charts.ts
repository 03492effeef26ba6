// Charts over the rows that pass: any value against any other, coloured by a third.

import { BarChart, ParallelChart, ScatterChart } from "echarts/charts";
import {
  AriaComponent,
  GridComponent,
  LegendComponent,
  ParallelComponent,
  TooltipComponent,
  VisualMapComponent,
} from "echarts/components";
import { ECharts, init, use } from "echarts/core";
import { CanvasRenderer } from "echarts/renderers";
import { Field, Row, Value, number, seconds, show, when } from "./data";
import { choice, el, fill } from "./dom";
import { get, set } from "./state";

use([
  AriaComponent, BarChart, CanvasRenderer, GridComponent, LegendComponent, ParallelChart,
  ParallelComponent, ScatterChart, TooltipComponent, VisualMapComponent,
]);

// Okabe and Ito's colours, told apart by all, and shades of them.
const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8a6fd1", "#999999"];
const MOST = COLOURS.length; // groups with a colour of their own
const RAMP = ["#440154", "#3b528b", "#21918c", "#5ec962", "#fde725"]; // viridis

let chart: ECharts | null = null;

export function charts(
  element: HTMLElement,
  shown: Row[],
  fields: Field[],
  open: (row: Row) => void,
): void {
  const numeric = fields.filter((field) => field.numeric);
  const varied = fields.filter((field) => field.varies);
  const kind = get("chart", "scatter");
  const y = pick(fields, get("y")) ?? numeric.find((f) => f.group === "metrics" && f.varies) ?? pick(fields, "duration")!;
  const x = pick(fields, get("x")) ?? varied.find((f) => f.group === "config" && f.numeric)
    ?? varied.find((f) => f.group === "config") ?? pick(fields, "began")!;
  const colour = pick(fields, get("by"))
    ?? (get("by") === "-" ? undefined : varied.find((f) => f.group === "config" && f !== x) ?? varied.find((f) => f.key === "step"));
  const options = (only: Field[]) => ({
    config: only.filter((f) => f.group === "config").map((f): [string, string] => [f.key, f.name]),
    metrics: only.filter((f) => f.group === "metrics").map((f): [string, string] => [f.key, f.name]),
    run: only.filter((f) => f.group === "run").map((f): [string, string] => [f.key, f.name]),
  });
  const holder = el("div", { class: "chart", role: "img", "aria-label": "" });
  fill(
    element,
    el(
      "div",
      { class: "controls" },
      choice(
        "Chart",
        { "": [["scatter", "value against value"], ["durations", "durations"], ["parallel", "parallel coordinates"]] },
        kind,
        (value) => set({ chart: value }),
      ),
      kind === "scatter" ? choice("Down", options(numeric), y.key, (value) => set({ y: value })) : null,
      kind === "scatter" ? choice("Across", options(fields), x.key, (value) => set({ x: value })) : null,
      choice("Colour", { "": [["-", "none"]], ...options(varied) }, colour?.key ?? "-", (value) => set({ by: value })),
      el("span", { class: "hint" }, kind === "parallel" ? "drag along an axis to pick a range" : kind === "scatter" ? "a click on a point opens it" : ""),
    ),
    holder,
  );
  chart?.dispose();
  chart = init(holder);
  const style = looks();
  const option = kind === "parallel"
    ? parallel(shown, fields, colour, style)
    : kind === "durations"
      ? histogram(shown, colour, style)
      : scatter(shown, x, y, colour, style);
  holder.setAttribute("aria-label", `${shown.length} instances: ${kind === "scatter" ? `${y.name} against ${x.name}` : kind}`);
  chart.setOption({
    animation: false,
    textStyle: { fontFamily: style.font, color: style.ink },
    color: COLOURS,
    ...option,
  } as never);
  chart.on("click", (event) => {
    const row = (event.data as { row?: Row } | undefined)?.row;
    if (row) open(row);
  });
}

export function resizeChart(): void {
  chart?.resize();
}

/** For tests and the curious: how many points are drawn. */
export function points(): number {
  const series = (chart?.getOption().series ?? []) as { data?: unknown[] }[];
  return series.reduce((sum, one) => sum + (one.data?.length ?? 0), 0);
}

function pick(fields: Field[], key: string): Field | undefined {
  return fields.find((field) => field.key === key);
}

interface Looks {
  ink: string;
  line: string;
  paper: string;
  font: string;
}

function looks(): Looks {
  const style = getComputedStyle(document.documentElement);
  const value = (name: string) => style.getPropertyValue(name).trim();
  return { ink: value("--ink-2"), line: value("--line"), paper: value("--paper"), font: getComputedStyle(document.body).fontFamily };
}

function text(field: Field, value: Value): string {
  if (typeof value !== "number") return show(value);
  if (field.key === "began") return when(value);
  return field.key === "duration" ? seconds(value) : number(value);
}

function tip(row: Row, fields: Field[]): HTMLElement {
  return el(
    "div",
    { class: "tip" },
    el("strong", {}, row.id),
    ...fields.map((field) => el("div", {}, `${field.name}: ${text(field, field.get(row))}`)),
  );
}

function axis(field: Field, rows: Row[], style: Looks): Record<string, unknown> {
  const common = {
    name: field.name,
    nameLocation: "middle",
    nameTextStyle: { color: style.ink, fontWeight: 600 },
    axisLine: { lineStyle: { color: style.line } },
    splitLine: { lineStyle: { color: style.line, opacity: 0.6 } },
    axisLabel: { color: style.ink, hideOverlap: true },
  };
  if (field.numeric) {
    const shown = (value: number) => (field.key === "began" ? when(value).slice(5, 16) : number(value));
    return { type: "value", scale: true, ...common, axisLabel: { ...common.axisLabel, formatter: shown } };
  }
  return { type: "category", data: categories(field, rows), ...common };
}

function categories(field: Field, rows: Row[]): string[] {
  const found = new Set(rows.map((row) => show(field.get(row))));
  return [...found].sort(new Intl.Collator(undefined, { numeric: true }).compare);
}

/** Rows by the value that colours them, the most frequent first and the rest together. */
function groups(rows: Row[], field: Field | undefined): [string, Row[]][] {
  if (!field) return [["all", rows]];
  const found = new Map<string, Row[]>();
  for (const row of rows) {
    const name = show(field.get(row)) || "none";
    const members = found.get(name);
    if (members) members.push(row);
    else found.set(name, [row]);
  }
  const all = [...found].sort((a, b) => b[1].length - a[1].length);
  if (all.length > MOST) {
    const rest = all.splice(MOST - 1);
    all.push([`${rest.length} others`, rest.flatMap(([, members]) => members)]);
  }
  const collator = new Intl.Collator(undefined, { numeric: true });
  return all.sort(([a], [b]) => collator.compare(a, b));
}

function continuous(field: Field | undefined, rows: Row[]): field is Field {
  return !!field?.numeric && new Set(rows.map((row) => field.get(row))).size > MOST;
}

function extent(field: Field, rows: Row[]): [number, number] {
  let [low, high] = [Infinity, -Infinity];
  for (const row of rows) {
    const value = field.get(row);
    if (typeof value !== "number") continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  return low <= high ? [low, high] : [0, 1];
}

function ramp(field: Field, rows: Row[], style: Looks, dimension?: number): Record<string, unknown> {
  const [min, max] = extent(field, rows);
  return {
    min, max, dimension, calculable: true, right: 8, top: "middle", inRange: { color: RAMP },
    text: [field.name, ""], textStyle: { color: style.ink }, formatter: (v: number) => text(field, v),
  };
}

const TIP = { confine: true, backgroundColor: "var(--raised)", borderColor: "var(--line)", textStyle: { color: "var(--ink)" } };

function legend(style: Looks, field: Field | undefined) {
  return field ? { type: "plain", top: 0, textStyle: { color: style.ink }, inactiveColor: style.line } : undefined;
}

function scatter(rows: Row[], x: Field, y: Field, colour: Field | undefined, style: Looks) {
  const told = [y, x, ...(colour && colour !== x && colour !== y ? [colour] : [])];
  const point = (row: Row) => ({
    value: [x.numeric ? x.get(row) : show(x.get(row)), y.get(row), colour?.numeric ? colour.get(row) : 0],
    row,
  });
  const drawn = rows.filter((row) => typeof y.get(row) === "number" && x.get(row) !== null);
  const smooth = continuous(colour, drawn);
  const parts: [string, Row[]][] = smooth ? [["all", drawn]] : groups(drawn, colour);
  return {
    grid: { left: 74, right: smooth ? 110 : 24, top: 44, bottom: 56 },
    legend: smooth ? undefined : legend(style, colour),
    visualMap: smooth ? ramp(colour!, drawn, style, 2) : undefined,
    tooltip: { ...TIP, trigger: "item", formatter: (p: { data: { row: Row } }) => tip(p.data.row, told) },
    xAxis: { ...axis(x, drawn, style), nameGap: 32 },
    yAxis: { ...axis(y, drawn, style), nameGap: 54 },
    series: parts.map(([name, members]) => ({
      type: "scatter",
      name,
      symbolSize: rows.length > 2000 ? 5 : 9,
      itemStyle: { opacity: rows.length > 500 ? 0.65 : 0.9 },
      emphasis: { itemStyle: { borderColor: style.ink, borderWidth: 2 } },
      data: members.map(point),
    })),
  };
}

function histogram(rows: Row[], colour: Field | undefined, style: Looks) {
  const done = rows.filter((row) => row.duration !== null);
  const longest = Math.max(0, ...done.map((row) => row.duration!));
  const count = Math.max(1, Math.min(40, Math.ceil(Math.sqrt(done.length) * 1.5)));
  const width = longest / count || 1;
  const bins = Array.from({ length: count }, (_, n) => `${seconds(n * width)} – ${seconds((n + 1) * width)}`);
  return {
    grid: { left: 64, right: 24, top: 44, bottom: 56 },
    legend: legend(style, colour),
    tooltip: { ...TIP, trigger: "axis", axisPointer: { type: "shadow" } , renderMode: "richText" },
    xAxis: { type: "category", data: bins, name: "duration", nameLocation: "middle", nameGap: 32, axisLabel: { color: style.ink, hideOverlap: true }, nameTextStyle: { color: style.ink, fontWeight: 600 } },
    yAxis: { type: "value", name: "instances", minInterval: 1, nameLocation: "middle", nameGap: 44, axisLabel: { color: style.ink }, splitLine: { lineStyle: { color: style.line } }, nameTextStyle: { color: style.ink, fontWeight: 600 } },
    series: groups(done, colour).map(([name, members]) => {
      const counts = new Array<number>(count).fill(0);
      for (const row of members) counts[Math.min(count - 1, Math.floor(row.duration! / width))] += 1;
      return { type: "bar", name, stack: "all", barCategoryGap: "8%", data: counts };
    }),
  };
}

function parallel(rows: Row[], fields: Field[], colour: Field | undefined, style: Looks) {
  const axes = [
    ...fields.filter((f) => f.group === "config" && f.varies && (f.numeric || categories(f, rows).length <= 30)),
    ...fields.filter((f) => f.group === "metrics" && f.numeric && f.varies),
    ...fields.filter((f) => f.key === "duration"),
  ].slice(0, 12);
  const smooth = continuous(colour, rows);
  const values = (row: Row) => [
    ...axes.map((field) => (field.numeric ? (field.get(row) ?? "-") : show(field.get(row)))),
    colour?.numeric ? colour.get(row) : 0,
  ];
  const lines = rows.slice(0, 5000);
  const parts: [string, Row[]][] = smooth ? [["all", lines]] : groups(lines, colour);
  return {
    legend: smooth ? undefined : legend(style, colour),
    visualMap: smooth ? ramp(colour!, rows, style, axes.length) : undefined,
    tooltip: { ...TIP, trigger: "item", formatter: (p: { data: { row: Row } }) => tip(p.data.row, axes) },
    parallel: { left: 70, right: smooth ? 130 : 70, top: 76, bottom: 36 },
    parallelAxis: axes.map((field, dim) => ({
      dim,
      ...axis(field, rows, style),
      nameLocation: "end",
      nameTextStyle: { color: style.ink, width: 110, overflow: "truncate", fontWeight: 600 },
      splitLine: { show: false },
    })),
    series: parts.map(([name, members]) => ({
      type: "parallel",
      name,
      smooth: 0.1,
      lineStyle: { width: 1.6, opacity: members.length > 300 ? 0.25 : 0.6 },
      emphasis: { lineStyle: { width: 3, opacity: 1 } },
      data: members.map((row) => ({ value: values(row), row })),
    })),
  };
}
