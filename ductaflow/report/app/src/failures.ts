// What failed, by cause: where, why, and the command that shows it again.

import { Cause, Row, byId, data } from "./data";
import { el, fill } from "./dom";

const NAMES = 12;

export async function copy(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Pages from disk may have no clipboard: the old way, by a selection.
    const area = el("textarea", { class: "visually-hidden" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

export function copyButton(text: () => string, label: string): HTMLButtonElement {
  const button = el("button", { type: "button", class: "copy" }, label);
  button.addEventListener("click", () => {
    void copy(text()).then(() => {
      button.textContent = "copied";
      window.setTimeout(() => (button.textContent = label), 1500);
    });
  });
  return button;
}

export function failures(element: HTMLElement, shown: Row[], open: (row: Row) => void): void {
  const visible = new Set(shown.map((row) => row.id));
  const causes = data.causes
    .map((cause) => ({ cause, ids: cause.instances.filter((id) => visible.has(id)) }))
    .filter(({ ids }) => ids.length);
  fill(
    element,
    causes.length
      ? el("p", { class: "hint lead" }, `${causes.reduce((n, { ids }) => n + ids.length, 0)} failed, ${causes.length} ${causes.length === 1 ? "cause" : "causes"}`)
      : el("p", { class: "empty" }, "Nothing failed among these."),
    ...causes.map(({ cause, ids }) => section(cause, ids, open)),
  );
}

function section(cause: Cause, ids: string[], open: (row: Row) => void): HTMLElement {
  const where = [
    cause.cell ? `cell ${cause.cell}` : "",
    cause.line ? `${cause.flow}:${cause.line}` : cause.flow,
  ].filter(Boolean).join(" · ");
  const names = el("p", { class: "names" });
  const name = (id: string) => {
    const row = byId.get(id);
    return row
      ? el("button", { type: "button", class: "chip", onclick: () => open(row) }, id)
      : el("span", {}, id);
  };
  names.append(...ids.slice(0, NAMES).map(name));
  if (ids.length > NAMES) {
    const more = el("button", { type: "button", class: "chip more" }, `and ${ids.length - NAMES} more`);
    more.addEventListener("click", () => more.replaceWith(...ids.slice(NAMES).map(name)));
    names.append(more);
  }
  return el(
    "article",
    { class: "cause" },
    el("h2", {}, el("span", { class: "count" }, `${ids.length} ×`), ` ${cause.type}`),
    el("p", { class: "message" }, cause.message),
    el("p", { class: "hint" }, where),
    cause.traceback.length
      ? el("pre", { class: "error", tabindex: "0", "aria-label": "end of the traceback" }, cause.traceback.join("\n"))
      : null,
    el(
      "div",
      { class: "command" },
      el("code", { tabindex: "0", "aria-label": "command that runs one of them alone" }, cause.command),
      copyButton(() => cause.command, "copy"),
    ),
    names,
  );
}
