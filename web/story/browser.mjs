// Debian's Chromium, and a guard over its pages: a console error, a CSP report, an uncaught error or a dialog fails the story.
import { chromium } from "playwright-core";

const FLAGS = [
  "--no-sandbox",
  "--headless=new",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

export function launch() {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
}

/** Watches every page of a context. */
export class Guard {
  #complaints = [];
  #allowed = [];
  #origin;

  constructor(origin) {
    this.#origin = origin;
  }

  async watch(context) {
    await context.exposeBinding("reportViolation", (_, report) => this.#note(`CSP: ${report}`));
    await context.addInitScript(() => {
      document.addEventListener("securitypolicyviolation", (event) => {
        window.reportViolation(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
      });
    });
    context.on("request", (request) => {
      const url = request.url();
      if (!url.startsWith(this.#origin) && !/^(data|blob|about):/.test(url))
        this.#note(`a request to ${url}`);
    });
    context.on("page", (page) => {
      page.on("console", (message) => {
        if (message.type() === "error" || message.type() === "warning") {
          this.#note(`console ${message.type()}: ${message.text()} (${message.location().url})`);
        }
      });
      page.on("pageerror", (error) => this.#note(`uncaught: ${error.message}`));
      page.on("dialog", async (dialog) => {
        this.#note(`dialog: ${dialog.message()}`);
        await dialog.dismiss();
      });
    });
  }

  /** What is expected to show on the console while `during` runs, such as a refusal that the story provokes. */
  async allow(pattern, during) {
    this.#allowed.push(pattern);
    try {
      return await during();
    } finally {
      this.#allowed.splice(this.#allowed.indexOf(pattern), 1);
    }
  }

  /** Throws when something was noted. */
  check() {
    if (this.#complaints.length > 0)
      throw new Error(`the browser complained:\n  ${this.#complaints.join("\n  ")}`);
  }

  #note(complaint) {
    if (!this.#allowed.some((pattern) => pattern.test(complaint))) this.#complaints.push(complaint);
  }
}

/** Presses Tab until the focus is on what the selector names; fails when a keyboard cannot get there. */
export async function tabTo(page, selector, most = 60) {
  for (let presses = 0; presses <= most; presses += 1) {
    if (await page.evaluate((wanted) => document.activeElement?.matches(wanted) === true, selector)) return;
    await page.keyboard.press("Tab");
  }
  throw new Error(`${most} presses of Tab do not lead to ${selector}`);
}

/** Fails when the page is wider than its window. */
export async function fitsItsWindow(page, what) {
  const excess = await page.evaluate(() => {
    const root = document.documentElement;
    return root.scrollWidth - root.clientWidth;
  });
  if (excess > 0)
    throw new Error(`${what} is ${excess} px wider than a window of ${page.viewportSize().width} px`);
}
