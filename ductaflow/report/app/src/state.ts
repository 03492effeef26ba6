// What is looked at, and how: kept in the address, so that a view can be shared.

export const state = new URLSearchParams(location.hash.slice(1));

type Listener = (changed: Set<string>) => void;
const listeners: Listener[] = [];

export function listen(listener: Listener): void {
  listeners.push(listener);
}

export function get(key: string, otherwise = ""): string {
  return state.get(key) ?? otherwise;
}

export function list(key: string): string[] {
  const value = state.get(key);
  return value ? value.split("|").map(decodeURIComponent) : [];
}

export function set(values: Record<string, string | string[] | null>, quietly = false): void {
  const changed = new Set<string>();
  for (const [key, given] of Object.entries(values)) {
    const value = Array.isArray(given) ? given.map(encodeURIComponent).join("|") : given;
    if ((state.get(key) ?? "") === (value ?? "")) continue;
    changed.add(key);
    if (value) state.set(key, value);
    else state.delete(key);
  }
  if (!changed.size) return;
  remember();
  if (!quietly) for (const listener of listeners) listener(changed);
}

function remember(): void {
  const hash = state.toString();
  history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
}

window.addEventListener("hashchange", () => {
  const now = new URLSearchParams(location.hash.slice(1));
  const keys = new Set([...state.keys(), ...now.keys()]);
  const changed = new Set([...keys].filter((key) => state.get(key) !== now.get(key)));
  if (!changed.size) return;
  for (const key of [...state.keys()]) state.delete(key);
  for (const [key, value] of now) state.set(key, value);
  for (const listener of listeners) listener(changed);
});
