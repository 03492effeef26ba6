// Elements made of data: every value becomes text or an attribute, never HTML.

type Child = Node | string | number | null | undefined | false;
type Props = Record<string, unknown>;

export function el<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  props: Props = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on") && typeof value === "function") {
      node.addEventListener(name.slice(2), value as EventListener);
    } else if (name === "class") {
      node.className = String(value);
    } else {
      node.setAttribute(name, value === true ? "" : String(value));
    }
  }
  append(node, children);
  return node;
}

export function svg(tag: string, props: Props = {}, ...children: Child[]): SVGElement {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on") && typeof value === "function") {
      node.addEventListener(name.slice(2), value as EventListener);
    } else {
      node.setAttribute(name, String(value));
    }
  }
  append(node, children);
  return node;
}

function append(node: Element, children: Child[]): void {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : String(child));
  }
}

export function fill(node: Element, ...children: Child[]): void {
  node.replaceChildren();
  append(node, children);
}

/** A select with its label; `groups` maps a group's label to its [value, text] pairs. */
export function choice(
  label: string,
  groups: Record<string, [string, string][]>,
  value: string,
  change: (value: string) => void,
): HTMLElement {
  const select = el("select", {
    onchange: (event: Event) => change((event.target as HTMLSelectElement).value),
  });
  for (const [name, options] of Object.entries(groups)) {
    if (!options.length) continue;
    const parent = name ? el("optgroup", { label: name }) : select;
    for (const [key, text] of options) {
      parent.append(el("option", { value: key, selected: key === value }, text));
    }
    if (parent !== select) select.append(parent);
  }
  return el("label", { class: "choice" }, el("span", {}, label), select);
}

export function later(milliseconds: number, action: () => void): () => void {
  let timer = 0;
  return () => {
    window.clearTimeout(timer);
    timer = window.setTimeout(action, milliseconds);
  };
}
