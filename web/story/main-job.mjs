// The main job in a real browser: sign in by the owner link, delegate by keyboard, watch, read, push, follow up; then the
// same on a phone's window, and axe over every page. Screenshots of each step go to --out.
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { checkAccessibility } from "./accessibility.mjs";
import { readArguments } from "./arguments.mjs";
import { fitsItsWindow, Guard, launch, tabTo } from "./browser.mjs";

const { url, ownerLink, repository, out, expect } = readArguments();
/** The work itself may take a while; everything else answers at once. */
const WORK_MS = 120_000;
const SCREEN = { width: 1280, height: 860 };
const PHONE = { width: 360, height: 740 };

await mkdir(out, { recursive: true });
const browser = await launch();
const guard = new Guard(new URL(url).origin);
let steps = 0;
/** The task of this story, once the list has shown it. */
let taskAddress = "";
let page;

try {
  const context = await browser.newContext({ viewport: SCREEN, colorScheme: "light" });
  context.setDefaultTimeout(15_000);
  await guard.watch(context);
  page = await context.newPage();

  await step("who comes for the first time is told how to sign in", firstVisit);
  await step("the owner link signs in and leaves the address bar", signIn);
  await step("the owner link works only once", linkIsUsedUp);
  await step("a wrong repository is said at its field and nothing typed is lost", refusedDraft);
  await step("a task is delegated by keyboard", delegate);
  await step("it becomes ready while one watches", watch);
  if (expect.blocked !== "") {
    await step("a host that was refused is allowed by one press", allowHost);
    await step("the environment shows it, and it is removed again", removeHost);
  }
  await step("the answer is read", readAnswer);
  await step("the changes are read", readChanges);
  await step("the changes are pushed", push);
  await step("a follow-up is asked and answered", followUp);
  if (expect.wait !== "") {
    await step("an agent that works is told something, and heeds it", steer);
    await step("an attempt is stopped, and resumed", stopAndResume);
  }
  await step("everything fits a phone", phone);
  await step("the list has the task", list);
  await step("nothing serious stands in the way of a screen reader", accessibility);
  await step("signing out closes the door", signOut);
  console.log(`ok: ${steps} steps; screenshots in ${out}`);
} catch (error) {
  await page?.screenshot({ path: join(out, "failed.png"), fullPage: true }).catch(() => undefined);
  console.error(`failed at: ${error.message}`);
  process.exitCode = 1;
} finally {
  await browser.close();
}

async function step(name, work) {
  const began = performance.now();
  try {
    await work();
    guard.check();
  } catch (error) {
    throw new Error(`${name}\n${error.message}`, { cause: error });
  }
  steps += 1;
  await page.screenshot({
    path: join(out, `${String(steps).padStart(2, "0")}-${name.replaceAll(/\W+/g, "-")}.png`),
  });
  console.log(`${name} (${Math.round(performance.now() - began)} ms)`);
}

async function signIn() {
  await page.goto(ownerLink);
  await page.getByRole("form", { name: "New task" }).waitFor();
  equal(page.url(), `${url}/`, "the address after signing in");
  const cookie = (await page.context().cookies()).find(({ name }) => name === "carrel_session");
  equal(cookie?.httpOnly, true, "the session's cookie is out of reach of scripts");
}

async function firstVisit() {
  const context = await browser.newContext({ viewport: SCREEN });
  await guard.watch(context);
  const stranger = await context.newPage();
  await stranger.goto(`${url}/`);
  await stranger.getByRole("heading", { name: "Sign in" }).waitFor();
  await context.close();
}

async function linkIsUsedUp() {
  const context = await browser.newContext({ viewport: SCREEN });
  await guard.watch(context);
  const second = await context.newPage();
  await guard.allow(/401/, async () => {
    await second.goto(ownerLink);
    await second.getByRole("alert").waitFor();
  });
  equal(new URL(second.url()).hash, "", "what is left of the secret in the address bar");
  await second.getByText("carrel owner-link").first().waitFor();
  await second.screenshot({ path: join(out, "link-used.png") });
  await context.close();
}

async function refusedDraft() {
  await page.getByLabel("What is to be done?").fill("kept");
  await page.getByLabel("Repository").fill("no such place");
  await guard.allow(/422|400/, async () => {
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "Delegate" }).click();
    await page.locator('input[name="repository"][aria-invalid="true"]').waitFor();
  });
  equal(await page.getByLabel("What is to be done?").inputValue(), "kept", "the prompt");
  await page.goto(`${url}/`);
  await page.getByRole("form", { name: "New task" }).waitFor();
}

/** Chosen, pasted, and one of them removed by keyboard. */
async function attach() {
  const form = page.getByRole("form", { name: "New task" });
  const given = form.getByRole("list", { name: "Files to go along" });
  await form.locator('input[name="attachments"]').setInputFiles([
    { name: "trace.log", mimeType: "text/plain", buffer: Buffer.from("a trace") },
    { name: "wrong.log", mimeType: "text/plain", buffer: Buffer.from("not this one") },
  ]);
  await form.locator('textarea[name="prompt"]').evaluate((box) => {
    const pixel =
      "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
    const bytes = Uint8Array.from(atob(pixel), (letter) => letter.charCodeAt(0));
    const data = new DataTransfer();
    data.items.add(new File([bytes], "pasted.png", { type: "image/png" }));
    box.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
  });
  await given.locator("img").waitFor();
  await given.getByRole("button", { name: "Remove wrong.log" }).focus();
  await page.keyboard.press("Enter");
  await page.locator('input[name="attachments"]:focus').waitFor();
  equal(await given.getByRole("listitem").count(), 2, "files to go along");
  await page.screenshot({ path: join(out, "attached.png") });
}

async function delegate() {
  await attach();
  await page.keyboard.press("Shift+Tab");
  await tabTo(page, 'textarea[name="prompt"]');
  await page.keyboard.type(expect.prompt);
  await tabTo(page, 'input[name="repository"]');
  await page.keyboard.type(repository);
  await tabTo(page, 'input[type="radio"]');
  // There and back: the mode is chosen by arrow keys.
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowLeft");
  await page.locator('input[type="radio"]:focus:checked').waitFor();
  await tabTo(page, 'button[type="submit"]');
  await page.keyboard.press("Enter");
  await page.waitForURL(/\/tasks\/[0-9a-f-]{36}/);
  await page
    .getByRole("heading", { level: 1 })
    .getByText(expect.prompt.split("\n")[0].slice(0, 40))
    .waitFor();
}

async function watch() {
  const given = page.getByRole("list", { name: "Given files" });
  await given.getByRole("link", { name: /trace\.log/ }).waitFor();
  equal(await given.locator("img").evaluate((image) => image.naturalWidth), 1, "the width of the picture");
  await page.getByTestId("task-state").getByText("Ready").waitFor({ timeout: WORK_MS });
  await page.getByRole("tab", { name: "Log" }).first().click();
  await page.locator("[data-entry]").first().waitFor();
}

async function allowHost() {
  const button = page.getByRole("button", { name: `Allow ${expect.blocked} in default` });
  await button.focus();
  await page.keyboard.press("Enter");
  await page.getByText("Allowed for new attempts from version 2").waitFor();
  await page.locator('button[aria-disabled="true"]:focus', { hasText: expect.blocked }).waitFor();
}

async function removeHost() {
  const task = page.url();
  await page.getByRole("link", { name: "Environments" }).click();
  await page.getByRole("link", { name: "default", exact: true }).click();
  await page.getByTestId("version").getByText("version 2").waitFor();
  await page.screenshot({ path: join(out, "environment.png"), fullPage: true });
  await page.getByRole("button", { name: "Reset the cache" }).click();
  await page.getByText(/prepares the environment anew|nothing to reset/).waitFor();
  await page.getByRole("button", { name: `Remove ${expect.blocked}` }).click();
  await page.getByText("not allowed any more, for new attempts from version 3").waitFor();
  await page.locator('[role="group"]:focus').waitFor();
  await page.goto(task);
  await page.getByRole("button", { name: `Allow ${expect.blocked} in default` }).waitFor();
}

async function readAnswer() {
  await page.getByRole("tab", { name: "Answer" }).first().focus();
  await page.keyboard.press("Enter");
  await page.getByTestId("answer").filter({ hasText: expect.answer }).waitFor();
}

async function readChanges() {
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("Enter");
  const changes = page.getByTestId("changes");
  await changes.locator("table.diff").first().waitFor();
  if (expect.file !== "") await changes.getByRole("region", { name: expect.file }).waitFor();
  if (expect.diff !== "") await changes.locator("td.code", { hasText: expect.diff }).first().waitFor();
  await page.getByRole("radio", { name: "Side by side", exact: true }).check();
  await page.locator("table.diff-split").first().waitFor();
  equal(new URL(page.url()).searchParams.get("layout"), "split", "the layout in the address");
  await page.screenshot({ path: join(out, "side-by-side.png") });
  await page.getByRole("radio", { name: "Unified" }).check();
}

async function push() {
  await page.getByRole("button", { name: "Push…" }).click();
  const dialog = page.getByRole("dialog");
  const prefilled = await dialog.getByLabel("Branch").inputValue();
  if (!prefilled.startsWith("carrel/")) throw new Error(`the branch is prefilled with ${prefilled}`);
  await dialog.getByLabel("Branch").fill(expect.branch);
  await dialog.getByRole("button", { name: "Push" }).click();
  await dialog.getByText(`${expect.branch} is at`).waitFor({ timeout: WORK_MS });
  await page.screenshot({ path: join(out, "pushed.png") });
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
  await page.getByTestId("publications").getByText("Pushed").waitFor();
}

async function followUp() {
  const form = page.getByRole("form", { name: "Follow-up" });
  await form.getByLabel("Follow up").fill(expect.followUp);
  await form.getByRole("radio", { name: /^Ask/ }).check();
  await form.getByLabel("Follow up").press("Control+Enter");
  const turn = page.getByRole("listitem", { name: "Turn 2" });
  await turn.getByTestId("answer").filter({ hasText: expect.followUpAnswer }).waitFor({ timeout: WORK_MS });
  equal(await form.getByLabel("Follow up").inputValue(), "", "the follow-up's text once it is sent");
}

/** Asks for something that keeps the agent waiting; gives the turn. */
async function wait(number) {
  const form = page.getByRole("form", { name: "Follow-up" });
  await form.getByLabel("Follow up").fill(expect.wait);
  await form.getByRole("radio", { name: /^Ask/ }).check();
  await form.getByLabel("Follow up").press("Control+Enter");
  const turn = page.getByRole("listitem", { name: `Turn ${number}` });
  await turn.locator('[data-entry="command"]').first().waitFor({ timeout: WORK_MS });
  return turn;
}

async function steer() {
  const turn = await wait(3);
  const box = turn.getByLabel("Tell the agent");
  await box.fill(expect.told);
  await box.press("Shift+Enter");
  equal(await box.inputValue(), `${expect.told}\n`, "the message after Shift and Enter");
  await box.press("Enter");
  await turn.getByTestId("answer").filter({ hasText: expect.toldAnswer }).waitFor({ timeout: WORK_MS });
  await turn.getByRole("tab", { name: "Log" }).click();
  await turn.locator('[data-entry="said"]', { hasText: "the agent was told" }).waitFor();
  equal(await page.getByLabel("Tell the agent").count(), 0, "ways to tell an agent that is done");
}

async function stopAndResume() {
  const turn = await wait(4);
  await turn.getByLabel("Tell the agent").fill("Not sent yet");
  await turn.getByRole("button", { name: "Stop" }).focus();
  await page.keyboard.press("Enter");
  await turn.getByRole("button", { name: "Resume" }).waitFor();
  await focusIsOn("button", "Resume");
  await turn.getByRole("button", { name: "Use as follow-up" }).click();
  equal(await page.getByLabel("Follow up").inputValue(), "Not sent yet", "what the agent was not told");
  await page.getByLabel("Follow up").fill("");
  await turn.getByRole("button", { name: "Resume" }).focus();
  await page.keyboard.press("Enter");
  await turn.getByRole("tab", { name: "Attempt 2" }).waitFor();
  await focusIsOn("button, section", /Stop|Attempt 2/);
  await turn.getByTestId("answer").filter({ hasText: expect.resumedAnswer }).waitFor({ timeout: WORK_MS });
  equal(await turn.getByRole("tab", { name: /Attempt/ }).count(), 2, "attempts of the turn");
}

/** Waits until the focus is on an element of this kind and name; fails when it was lost. */
async function focusIsOn(selector, name) {
  const focused = page.locator(`:is(${selector}):focus`);
  await focused.waitFor({ timeout: 5000 }).catch(async () => {
    const tag = await page.evaluate(() => document.activeElement?.outerHTML.slice(0, 120));
    throw new Error(`the focus is not on ${name}, but on ${tag}`);
  });
  const label = await focused.evaluate((found) => found.getAttribute("aria-label") ?? found.textContent);
  if (!(name instanceof RegExp ? name.test(label) : label === name)) {
    throw new Error(`the focus is on ${JSON.stringify(label)} instead of ${name}`);
  }
}

async function phone() {
  await page.setViewportSize(PHONE);
  await fitsItsWindow(page, "the task");
  await page.screenshot({ path: join(out, "phone-task.png") });
  const changes = page.getByRole("tab", { name: /Changes/ }).first();
  await changes.click();
  await page.locator("table.diff").first().waitFor();
  await fitsItsWindow(page, "the diff");
  await page.screenshot({ path: join(out, "phone-diff.png") });
  await page.getByRole("tab", { name: "Log" }).first().click();
  await fitsItsWindow(page, "the log");
  await page.emulateMedia({ colorScheme: "dark" });
  await page.screenshot({ path: join(out, "phone-log-dark.png") });
  await page.goto(`${url}/`);
  await page.getByRole("form", { name: "New task" }).waitFor();
  await fitsItsWindow(page, "the first page");
  await page.screenshot({ path: join(out, "phone-home-dark.png") });
  for (const path of ["environments", "environments/default"]) {
    await page.goto(`${url}/${path}`);
    await page.getByText("version").first().waitFor();
    await fitsItsWindow(page, path);
    await page.screenshot({ path: join(out, `phone-${path.replace("/", "-")}-dark.png`) });
  }
  await page.goto(`${url}/`);
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize(SCREEN);
}

async function list() {
  const link = page.getByRole("link", { name: expect.prompt.split("\n")[0].slice(0, 40) }).first();
  await link.waitFor();
  taskAddress = new URL(await link.getAttribute("href"), url).href;
}

async function accessibility() {
  const openPush = async (opened) => {
    await opened.getByRole("button", { name: "Push…" }).click();
    await opened.getByRole("dialog").waitFor();
  };
  await checkAccessibility(browser, await page.context().storageState(), [
    ["home", `${url}/`, 'form[aria-label="New task"]'],
    ["task", taskAddress, '[data-testid="answer"]'],
    ["log", `${taskAddress}?tab=log`, '[role="log"]'],
    ["changes", `${taskAddress}?${await firstAttempt()}&tab=diff`, "table.diff"],
    ["push", taskAddress, '[data-testid="answer"]', openPush],
    ["sign-in", `${url}/sign-in`, "#sign-in"],
    ["environments", `${url}/environments`, "main li"],
    ["environment", `${url}/environments/default`, '[data-testid="version"]'],
    ["nothing", `${url}/nothing/here`, "h1"],
  ]);
}

/** The first turn's attempt, which has the changes, as the address names it. */
async function firstAttempt() {
  const id = taskAddress.split("/").at(-1);
  const answer = await page.request.get(`${url}/api/v1/tasks/${id}`);
  return `attempt=${(await answer.json()).turns[0].attempts[0].id}`;
}

async function signOut() {
  await guard.allow(/401/, async () => {
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByRole("heading", { name: "Sign in" }).waitFor();
  });
}

function equal(got, wanted, what) {
  if (got !== wanted) throw new Error(`${what}: ${JSON.stringify(got)} instead of ${JSON.stringify(wanted)}`);
}
