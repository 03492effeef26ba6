// The observed graph: who read whose files. dagre lays it out; many nodes are first drawn by step.

import { graphlib, layout } from "@dagrejs/dagre";
import { Row, byId, data, lights, rows } from "./data";
import { choice, el, fill, svg } from "./dom";
import { get, set } from "./state";

const MANY = 60; // nodes above which the steps are drawn first
const WIDTH = 190;
const HEIGHT = 40;

interface Node {
  id: string;
  label: string;
  above: string;
  kind: "instance" | "step" | "file";
  light: string;
  title: string;
  row?: Row;
  act(): void;
}

interface Point {
  x: number;
  y: number;
}

interface Drawing {
  nodes: Map<string, Node>;
  edges: Map<string, { from: string; to: string; files: Set<string> }>;
}

export function lineage(element: HTMLElement, shown: Row[], open: (row: Row) => void): void {
  const visible = new Set(shown.map((row) => row.id));
  const edges = [...data.lineage.edges].sort((a, b) => collator.compare(a.to, b.to) || collator.compare(a.from, b.from));
  const files = new Set(data.lineage.files);
  const focus = get("focus");
  const involved = new Set(edges.flatMap((edge) => [edge.from, edge.to]));
  if (!edges.length) {
    fill(
      element,
      el("p", { class: "empty" }, "No instance is known to have read files of another, or of the project."),
    );
    return;
  }
  const level = focus ? "instances" : get("level", involved.size > MANY ? "steps" : "instances");
  const keep = focus ? around(focus) : null;
  const drawing: Drawing = { nodes: new Map(), edges: new Map() };
  const step = (id: string) => (files.has(id) ? folder(id) : id.split("/")[0]);
  const name = (id: string) => (level === "steps" ? step(id) : id);
  for (const edge of edges) {
    if (keep ? !(keep.has(edge.from) && keep.has(edge.to)) : !visible.has(edge.to)) continue;
    const [from, to] = [name(edge.from), name(edge.to)];
    if (from === to) continue;
    for (const [id, whole] of [[from, edge.from], [to, edge.to]]) {
      if (!drawing.nodes.has(id)) drawing.nodes.set(id, node(id, whole, level, files, open));
    }
    const key = `${from}\n${to}`;
    const known = drawing.edges.get(key) ?? { from, to, files: new Set<string>() };
    edge.files.forEach((file) => known.files.add(file));
    drawing.edges.set(key, known);
  }
  const stale = [...drawing.nodes.values()].filter((one) => one.light === "stale").length;
  fill(
    element,
    el(
      "div",
      { class: "controls" },
      focus
        ? el("button", { type: "button", class: "chip", onclick: () => set({ focus: null }) }, `only around ${focus} ×`)
        : choice(
            "Draw",
            { "": [["steps", "steps"], ["instances", "every instance"]] },
            level,
            (value) => set({ level: value }),
          ),
      el("span", { class: "hint" }, `${drawing.nodes.size} nodes, ${drawing.edges.size} edges${stale ? `, ${stale} stale` : ""}; files on the left of what read them. ${level === "steps" ? "A click on a step shows its instances." : "A click on an instance shows what it depends on and what on it."}`),
    ),
    draw(drawing),
  );
}

const collator = new Intl.Collator(undefined, { numeric: true });

function folder(file: string): string {
  const at = file.lastIndexOf("/", file.length - 2);
  return at > 0 ? `${file.slice(0, at)}/` : file;
}

/** An instance with all that is above and below it. */
function around(id: string): Set<string> {
  const found = new Set([id]);
  const walk = (start: string, from: "from" | "to", to: "from" | "to") => {
    const queue = [start];
    for (let at = queue.pop(); at !== undefined; at = queue.pop()) {
      for (const edge of data.lineage.edges) {
        if (edge[from] === at && !found.has(edge[to])) {
          found.add(edge[to]);
          queue.push(edge[to]);
        }
      }
    }
  };
  walk(id, "to", "from");
  walk(id, "from", "to");
  return found;
}

function node(id: string, whole: string, level: string, files: Set<string>, open: (row: Row) => void): Node {
  if (files.has(whole)) {
    const label = id.endsWith("/") ? id : id.slice(id.lastIndexOf("/") + 1);
    const at = id.lastIndexOf("/", id.length - 2);
    const above = id.endsWith("/") ? "files of" : at > 0 ? id.slice(0, at) : "";
    return { id, label, above, kind: "file", light: "", title: id, act: () => undefined };
  }
  if (level === "steps") {
    const members = rows.filter((row) => row.step === id);
    const count = (light: string) => members.filter((row) => row.light === light).length;
    const light = ["error", "stale", "running", "warnings"].find(count) ?? "success";
    const stale = count("stale");
    return {
      id,
      label: id,
      above: `${members.length} instances${stale ? `, ${stale} stale` : ""}`,
      kind: "step",
      light,
      title: `${id}: ${members.length} instances`,
      act: () => set({ level: "instances", "f.step": `=${id}` }),
    };
  }
  const row = byId.get(id);
  return {
    id,
    label: id.slice(id.indexOf("/") + 1),
    above: id.slice(0, id.indexOf("/")),
    kind: "instance",
    light: row?.light ?? "",
    title: [id, row ? lights.get(row.light)?.label : "not on this page", ...(row?.stale ?? [])].join("\n"),
    row,
    act: () => (get("focus") === id && row ? open(row) : set({ focus: id })),
  };
}

/** Lay it out from left to right. Long columns are given room by a scroll bar, not by small type. */
function draw({ nodes, edges }: Drawing): HTMLElement {
  const graph = new graphlib.Graph();
  const many = nodes.size > 150;
  graph.setGraph({
    rankdir: "LR", nodesep: 10, ranksep: 90, marginx: 16, marginy: 16,
    // Network simplex is for dozens of nodes, not for hundreds.
    ranker: many ? "longest-path" : "network-simplex",
  });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const one of nodes.values()) graph.setNode(one.id, { width: WIDTH, height: HEIGHT });
  for (const edge of edges.values()) graph.setEdge(edge.from, edge.to);
  layout(graph);
  const { width = 0, height = 0 } = graph.graph() as { width?: number; height?: number };
  const lines = [...edges.values()].map((edge) => {
    const inner = (graph.edge(edge.from, edge.to) as { points: Point[] }).points.slice(1, -1);
    const [from, to] = [graph.node(edge.from) as Point, graph.node(edge.to) as Point];
    const points = [{ x: from.x + WIDTH / 2, y: from.y }, ...inner, { x: to.x - WIDTH / 2, y: to.y }];
    const files = [...edge.files];
    return svg(
      "path",
      { class: "edge", d: curve(points), "marker-end": "url(#arrow)" },
      svg("title", {}, files.length > 8 ? `${files.slice(0, 8).join("\n")}\n… ${files.length} files` : files.join("\n")),
    );
  });
  const boxes = [...nodes.values()].map((one) => {
    const { x, y } = graph.node(one.id) as { x: number; y: number };
    const symbol = one.light ? lights.get(one.light)!.symbol : "";
    const acts = one.kind !== "file";
    return svg(
      "g",
      {
        class: `node ${one.kind} ${one.light}`,
        transform: `translate(${x - WIDTH / 2},${y - HEIGHT / 2})`,
        tabindex: acts ? 0 : null,
        role: acts ? "button" : "img",
        "aria-label": one.title,
        onclick: acts ? one.act : null,
        onkeydown: acts
          ? (event: KeyboardEvent) => {
              if (event.key !== "Enter" && event.key !== " ") return;
              event.preventDefault();
              one.act();
            }
          : null,
      },
      svg("title", {}, one.title),
      svg("rect", { width: WIDTH, height: HEIGHT, rx: one.kind === "file" ? 2 : 8 }),
      one.above ? svg("text", { class: "above", x: 12, y: 12 }, short(one.above)) : null,
      svg("text", { x: 12, y: one.above ? 27 : HEIGHT / 2 }, `${symbol} ${short(one.label)}`.trim()),
    );
  });
  return el(
    "div",
    { class: "graph", tabindex: "0", role: "region", "aria-label": "lineage" },
    svg(
      "svg",
      { width, height, viewBox: `0 0 ${width} ${height}` },
      svg(
        "defs",
        {},
        svg(
          "marker",
          { id: "arrow", viewBox: "0 0 8 8", refX: 8, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" },
          svg("path", { d: "M0,0 L8,4 L0,8 z", class: "arrow" }),
        ),
      ),
      ...lines,
      ...boxes,
    ),
  );
}

function short(label: string): string {
  return label.length > 25 ? `${label.slice(0, 14)}…${label.slice(-10)}` : label;
}

function curve(points: Point[]): string {
  const [first, ...rest] = points;
  let path = `M${first.x.toFixed(1)},${first.y.toFixed(1)}`;
  let before = first;
  for (const point of rest) {
    const middle = (before.x + point.x) / 2;
    path += ` C${middle.toFixed(1)},${before.y.toFixed(1)} ${middle.toFixed(1)},${point.y.toFixed(1)} ${point.x.toFixed(1)},${point.y.toFixed(1)}`;
    before = point;
  }
  return path;
}
