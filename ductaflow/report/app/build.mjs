// Builds the bundle of index.html: `npm ci && npm run build`. The same sources and lock file give
// the same bytes, which `.ci/run` checks.

import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const out = process.argv[2] ?? join(here, "..", "..", "static");
const licences = join(out, "LICENSES");

const result = await build({
  absWorkingDir: here,
  entryPoints: { index: "src/main.ts" },
  outdir: out,
  bundle: true,
  minify: true,
  format: "iife",
  target: ["es2022"],
  charset: "ascii",
  legalComments: "none",
  metafile: true,
  write: false,
  logLevel: "warning",
});
for (const file of result.outputFiles) {
  // What would end or confuse an inline element is written another way (and must not be there).
  const text = file.text;
  for (const bad of ["</script", "<!--", "</style", "https://cdn", "http://cdn"]) {
    if (text.toLowerCase().includes(bad)) throw new Error(`${file.path} has ${bad} in it`);
  }
  writeFileSync(file.path, text);
}

// The packages that are in the bundle, each with its licence.
const packages = new Set(
  Object.keys(result.metafile.inputs)
    .filter((name) => name.includes("node_modules/"))
    .map((name) => name.split("node_modules/").pop())
    .map((name) => name.split("/").slice(0, name.startsWith("@") ? 2 : 1).join("/")),
);
const parts = [];
for (const name of [...packages].sort()) {
  const folder = join(here, "node_modules", name);
  const { version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const file = ["LICENSE", "LICENSE.txt", "LICENSE.md", "license", "LICENCE"].find((f) =>
    existsSync(join(folder, f)),
  );
  if (!file) throw new Error(`${name} has no licence file`);
  const notice = join(folder, "NOTICE");
  const text = readFileSync(join(folder, file), "utf8").replaceAll("\r\n", "\n").trim();
  const more = existsSync(notice) ? `\n\n${readFileSync(notice, "utf8").trim()}` : "";
  parts.push(`${name} ${version} (${license})\n\n${text}${more}`);
}
// The README beside the bundles says their hashes.
const readme = join(out, "README.md");
if (existsSync(readme)) {
  const hash = createHash("sha256").update(readFileSync(join(out, "index.js"))).digest("hex");
  const text = readFileSync(readme, "utf8");
  writeFileSync(readme, text.replace(/^[0-9a-f]{64}  index\.js$/m, `${hash}  index.js`));
}

writeFileSync(join(licences, "index.txt"), parts.join(`\n\n${"=".repeat(80)}\n\n`) + "\n");
