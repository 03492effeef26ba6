// Which rows are shown: search, lights and the filters of the columns. All views share them.

import { Field, Row, Value, byId, rows, show } from "./data";
import { get, list, state } from "./state";

export type Test = (value: Value) => boolean;

/** A column's filter: `>5`, `<=3`, `2..5`, `=exact`, `!not`, or a part of the text. */
export function test(asked: string): Test {
  const text = asked.trim().toLowerCase();
  const compared = /^(>=|<=|>|<)\s*(-?[\d.]+(?:e[+-]?\d+)?)$/.exec(text);
  if (compared) {
    const limit = Number(compared[2]);
    return (value) => {
      if (typeof value !== "number") return false;
      if (compared[1] === ">") return value > limit;
      if (compared[1] === "<") return value < limit;
      return compared[1] === ">=" ? value >= limit : value <= limit;
    };
  }
  const range = /^(-?[\d.]+)\s*\.\.\s*(-?[\d.]+)$/.exec(text);
  if (range) {
    const [low, high] = [Number(range[1]), Number(range[2])];
    return (value) => typeof value === "number" && value >= low && value <= high;
  }
  const plain = (value: Value) => (value === null ? "" : String(value).toLowerCase());
  if (text.startsWith("=")) {
    const exact = text.slice(1).trim();
    return (value) => plain(value) === exact || show(value).toLowerCase() === exact;
  }
  if (text.startsWith("!")) {
    const not = text.slice(1).trim();
    return (value) => !plain(value).includes(not);
  }
  return (value) => plain(value).includes(text) || show(value).toLowerCase().includes(text);
}

/** The rows that pass, in their own order. */
export function shown(fields: Field[]): Row[] {
  const tests: ((row: Row) => boolean)[] = [];
  const wanted = new Set(list("light"));
  if (wanted.size) tests.push((row) => wanted.has(row.light));
  for (const word of get("q").toLowerCase().split(/\s+/).filter(Boolean)) {
    tests.push((row) => row.text.includes(word));
  }
  for (const field of [...fields, instanceField]) {
    const asked = state.get(`f.${field.key}`);
    if (!asked) continue;
    const passes = test(asked);
    tests.push((row) => passes(field.get(row)));
  }
  return tests.length ? rows.filter((row) => tests.every((passes) => passes(row))) : rows;
}

export const instanceField: Field = {
  key: "instance",
  name: "instance",
  group: "run",
  numeric: false,
  varies: true,
  get: (row) => row.instance,
};

export function selected(): Row[] {
  return list("sel").flatMap((id) => byId.get(id) ?? []);
}
