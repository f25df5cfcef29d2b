// axe-core over pages of the app, in light and in dark. It is injected, so its context goes without the CSP; what the CSP
// does is watched in the story's own context.

import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

const AXE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Runs axe over each address; throws with every serious or critical violation. */
export async function checkAccessibility(browser, storageState, addresses) {
  const found = [];
  for (const colorScheme of ["light", "dark"]) {
    const context = await browser.newContext({
      storageState,
      colorScheme,
      bypassCSP: true,
      reducedMotion: "reduce",
    });
    const page = await context.newPage();
    for (const [name, address, ready, open] of addresses) {
      await page.goto(address);
      await page.locator(ready).first().waitFor();
      await open?.(page);
      found.push(...(await violations(page)).map((violation) => `${name}, ${colorScheme}: ${violation}`));
    }
    await context.close();
  }
  if (found.length > 0) throw new Error(`axe found:\n  ${found.join("\n  ")}`);
}

async function violations(page) {
  await page.evaluate(AXE);
  const { violations: all } = await page.evaluate(() =>
    window.axe.run(document, { resultTypes: ["violations"] }),
  );
  return all
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(
      ({ id, nodes }) =>
        `${id}: ${nodes.map((node) => `${node.target.join(" ")} (${node.any[0]?.message ?? ""})`).join("; ")}`,
    );
}
