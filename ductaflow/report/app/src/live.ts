// A page that follows a sweep: it looks at a small script beside it, every second.

import { Cause, Packed, Row, byId, data, href, rows, unpack } from "./data";

const EVERY = 1000; // milliseconds between two looks
export const SCROLL = "ductaflow-scroll"; // where one looked before the page loaded itself anew
const QUIET = 20; // looks without a sign of life after which it is said

interface Status {
  session: string;
  from: number; // the changes that it has follow on those up to here
  sequence: number;
  done: boolean;
  beat: number;
  changes: Packed[];
  causes: Cause[];
  line: string;
}

export interface Follower {
  changed(rows: Row[], added: boolean): void;
  said(state: "live" | "over" | "lost", line: string): void;
}

export function follow(follower: Follower): void {
  const live = data.live;
  if (!live) return;
  let sequence = live.sequence;
  let beat = -1;
  let quiet = 0;
  let over = false;
  const status = (now: Status) => {
    if (now.session !== live.session || now.from > sequence) {
      // Another sweep, or more has happened than is told here: the page itself has it all.
      if (now.done || now.session !== live.session || now.from > sequence) reload();
      return;
    }
    quiet = now.beat === beat ? quiet + 1 : 0;
    beat = now.beat;
    if (now.sequence > sequence) {
      const news = now.changes.slice(sequence - now.from);
      sequence = now.sequence;
      data.causes = now.causes;
      const added = news.some((packed) => !byId.has(`${packed.s}/${packed.i}`));
      follower.changed(merge(news), added);
    }
    over = now.done;
    follower.said(over ? "over" : quiet > QUIET ? "lost" : "live", now.line);
  };
  (window as unknown as { ductaflowStatus: typeof status }).ductaflowStatus = status;
  const look = () => {
    const script = document.createElement("script");
    script.src = `${href(`${data.files}/status.js`)}?${Date.now()}`;
    script.onload = script.onerror = () => {
      script.remove();
      if (!over) window.setTimeout(look, EVERY);
    };
    document.head.append(script);
  };
  look();
}

function merge(news: Packed[]): Row[] {
  const changed = new Map<string, Row>();
  for (const packed of news) {
    const row = unpack(packed);
    const known = byId.get(row.id);
    // The same object stays in its place: tables and filters know it.
    if (known) Object.assign(known, row);
    else {
      rows.push(row);
      byId.set(row.id, row);
    }
    changed.set(row.id, known ?? row);
  }
  return [...changed.values()];
}

/** Once: a page that does not get further by it would do so for ever. */
function reload(): void {
  const key = "ductaflow-reloaded";
  const last = Number(sessionStorage.getItem(key) ?? 0);
  if (Date.now() - last < 5000) return;
  sessionStorage.setItem(key, String(Date.now()));
  const holder = document.querySelector(".tabulator-tableholder");
  if (holder) sessionStorage.setItem(SCROLL, `${holder.scrollTop},${holder.scrollLeft}`);
  location.reload();
}
