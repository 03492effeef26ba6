// What the page is given, and the rows it is made into.

export type Value = string | number | boolean | null;

/** A row as `page.row` in Python writes it. */
export interface Packed {
  s: string;
  i: string;
  l: string;
  t: string;
  f: string;
  c?: Record<string, Value> | Value[];
  m?: Record<string, Value> | Value[];
  b?: number;
  d?: number;
  p?: number;
  w?: number;
  r?: string[];
  e?: string;
  n?: string[];
  g?: [string, string, string][];
  a?: { cell?: number; cells?: number; line?: string };
  h?: Elsewhere;
}

/** A file that each run leaves. */
export interface Link {
  kind: string;
  text: string;
  /** Where it lies, with `{folder}`, `{flow}`, `{step}` and `{instance}` for the run's. */
  path: string;
  /** Whether links to a run lead to it, if the files before it are not there. */
  opened: boolean;
}

/** Of some kinds the file's name as it is now: empty if it was thinned away, null if there never was one. */
export type Elsewhere = Record<string, string | null>;

export interface Cause {
  kind: string;
  type: string;
  message: string;
  flow: string;
  cell: number | null;
  line: number | null;
  traceback: string[];
  command: string;
  instances: string[];
}

export interface Lineage {
  files: string[];
  edges: { from: string; to: string; files: string[] }[];
}

export interface Live {
  session: string;
  sequence: number;
  step: string;
}

export interface PageData {
  title: string;
  logo: string | null;
  runs: string;
  files: string;
  links: Link[];
  summary: string;
  generated: string;
  lights: { value: string; symbol: string; label: string }[];
  causes: Cause[];
  lineage: Lineage;
  media: boolean;
  live: Live | null;
  names: { c: string[]; m: string[] };
  rows: Packed[];
}

export interface Figure {
  image: string;
  thumbnail: string;
  label: string;
}

export interface Row {
  id: string;
  step: string;
  instance: string;
  light: string;
  status: string;
  flow: string;
  config: Record<string, Value>;
  metrics: Record<string, Value>;
  began: number | null;
  duration: number | null;
  memory: number | null;
  warnings: number;
  stale: string[];
  error: string;
  notes: string[];
  figures: Figure[];
  attempt: { cell?: number; cells?: number; line?: string };
  elsewhere: Elsewhere;
  text: string;
}

export const data: PageData = JSON.parse(document.getElementById("data")!.textContent!);
export const rows: Row[] = data.rows.map(unpack);
export const byId = new Map(rows.map((row) => [row.id, row]));
export const lights = new Map(data.lights.map((light) => [light.value, light]));

function named(values: Packed["c"], names: string[]): Record<string, Value> {
  if (!values) return {};
  if (!Array.isArray(values)) return values;
  const found: Record<string, Value> = {};
  values.forEach((value, n) => {
    if (value !== null) found[names[n]] = value;
  });
  return found;
}

export function unpack(packed: Packed): Row {
  const own = `${data.files}/figures/${packed.s}/${packed.i}/`;
  const place = (path: string) => (path.startsWith("/") ? path.slice(1) : own + path);
  const config = named(packed.c, data.names.c);
  const metrics = named(packed.m, data.names.m);
  const row: Row = {
    id: `${packed.s}/${packed.i}`,
    step: packed.s,
    instance: packed.i,
    light: packed.l,
    status: packed.t,
    flow: packed.f,
    config,
    metrics,
    began: packed.b ?? null,
    duration: packed.d ?? null,
    memory: packed.p ?? null,
    warnings: packed.w ?? 0,
    stale: packed.r ?? [],
    error: packed.e ?? "",
    notes: packed.n ?? [],
    figures: (packed.g ?? []).map(([image, thumbnail, label]) => ({
      image: place(image),
      thumbnail: place(thumbnail),
      label,
    })),
    attempt: packed.a ?? {},
    elsewhere: packed.h ?? {},
    text: "",
  };
  row.text = [row.id, row.light, row.status, row.error, ...Object.values(config)]
    .join("\n")
    .toLowerCase();
  return row;
}

/** A path as a relative address. */
export function href(path: string): string {
  return path.split("/").map(encodeURIComponent).join("/");
}

export function folder(row: Row): string {
  return `${data.runs}/${row.step}/${row.instance}`;
}

export function stem(row: Row): string {
  return row.flow.split(/[\\/]/).pop()!.replace(/\.[^.]*$/, "");
}

/** Where a file of a run lies; see `Elsewhere` if it does not. */
export function artifact(row: Row, link: Link): string | null {
  const name = row.elsewhere[link.kind];
  if (name !== undefined) return name && `${folder(row)}/${name}`;
  const fields: Record<string, string> = {
    folder: folder(row),
    flow: stem(row),
    step: row.step,
    instance: row.instance,
  };
  return link.path.replace(/\{(\w+)\}/g, (_, field: string) => fields[field]);
}

/** What to open of a run. */
export function report(row: Row): string {
  for (const link of data.links) {
    const path = link.opened && artifact(row, link);
    if (path) return path;
  }
  return `${folder(row)}/`;
}

// --- a column for every value --------------------------------------------------------------------

export interface Field {
  key: string;
  name: string;
  group: "run" | "config" | "metrics";
  numeric: boolean;
  varies: boolean;
  get(row: Row): Value;
}

function of(key: string, name: string, group: Field["group"], get: Field["get"]): Field {
  const seen = new Set<Value>();
  let numeric = true;
  const without = new Set<string>();
  const steps = new Set<string>();
  for (const row of rows) {
    const value = get(row) ?? null;
    if (value === null) {
      without.add(row.step);
      continue;
    }
    steps.add(row.step);
    if (seen.size < 2) seen.add(value);
    if (typeof value !== "number") numeric = false;
  }
  // That other steps do not have it is no difference; that some of the same step do not, is one.
  const varies = seen.size > 1 || (seen.size === 1 && [...steps].some((step) => without.has(step)));
  return { key, name, group, numeric: numeric && seen.size > 0, varies, get };
}

export function fields(): Field[] {
  const names = (part: "config" | "metrics") => {
    const found = new Map<string, number>();
    for (const name of part === "config" ? data.names.c : data.names.m) found.set(name, 0);
    for (const row of rows) {
      for (const name in row[part]) found.set(name, (found.get(name) ?? 0) + 1);
    }
    // What most instances have comes first; another step's few, last.
    return [...found].sort((a, b) => b[1] - a[1]).map(([name]) => name);
  };
  return [
    of("step", "step", "run", (row) => row.step),
    ...names("config").map((n) => of(`c:${n}`, n, "config", (row) => row.config[n] ?? null)),
    ...names("metrics").map((n) => of(`m:${n}`, n, "metrics", (row) => row.metrics[n] ?? null)),
    of("duration", "duration (s)", "run", (row) => row.duration),
    of("memory", "peak memory (MiB)", "run", (row) =>
      row.memory === null ? null : Math.round(row.memory / 104857.6) / 10,
    ),
    of("began", "started", "run", (row) => row.began),
    of("warnings", "warnings", "run", (row) => row.warnings),
  ];
}

// --- values for people ---------------------------------------------------------------------------

export function number(value: number): string {
  if (Number.isInteger(value)) return String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e7)) return value.toExponential(3);
  return String(Number(value.toPrecision(6)));
}

export function show(value: Value | undefined): string {
  if (value === null || value === undefined) return "";
  return typeof value === "number" ? number(value) : String(value);
}

export function seconds(value: number | null): string {
  if (value === null) return "";
  if (value < 10) return `${value.toFixed(2)} s`;
  if (value < 60) return `${value.toFixed(1)} s`;
  const whole = Math.round(value);
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (n: number) => String(n).padStart(2, "0");
  return h ? `${h}:${two(m)}:${two(s)} h` : `${m}:${two(s)} min`;
}

export function bytes(value: number | null): string {
  if (value === null) return "";
  if (value >= 2 ** 30) return `${(value / 2 ** 30).toFixed(1)} GiB`;
  return value >= 2 ** 20 ? `${(value / 2 ** 20).toFixed(0)} MiB` : `${Math.ceil(value / 1024)} KiB`;
}

export function when(value: number | null): string {
  if (value === null) return "";
  const date = new Date(value * 1000);
  const two = (n: number) => String(n).padStart(2, "0");
  return (
    `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ` +
    `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`
  );
}
